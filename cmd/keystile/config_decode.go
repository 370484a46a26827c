package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// decodeFile reads YAML over the defaults. The yaml package parses it into nodes; placing their values into the struct is done here, because
// then a mistake can name the option, suggest the nearest one, and keep a misplaced secret out of its message, and because flags and
// environment go through the same parsers.
func (l *configLoader) decodeFile(data []byte) {
	if at, what := badByte(data); at >= 0 {
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		column := at - bytes.LastIndexByte(data[:at], '\n')
		l.rejectAt(l.filePlace(line, column), "", what)
		return
	}
	root, err := parseYAML(data)
	if err != nil {
		line, column := errorPosition(err)
		l.rejectAt(l.filePlace(line, column), "", err.Error()+tabHint(data, line))
		return
	}
	if root != nil {
		l.decodeSection(root, reflect.ValueOf(&l.config).Elem(), "")
	}
}

// badByte finds the first byte that no configuration contains. The yaml package would report it without a line.
func badByte(data []byte) (at int, what string) {
	for at < len(data) {
		r, width := utf8.DecodeRune(data[at:])
		switch {
		case r == utf8.RuneError && width == 1:
			return at, "the file is not UTF-8 text"
		case !isYAMLText(r):
			return at, fmt.Sprintf("the file contains the control character %U", r)
		}
		at += width
	}
	return -1, ""
}

// isYAMLText reports whether r is printable in the sense of YAML 1.2, section 5.1.
func isYAMLText(r rune) bool {
	return r == '\n' || r == '\r' || r == '\t' || r == 0x85 || r >= 0x20 && r < 0x7f || r >= 0xa0 && r != 0xfffe && r != 0xffff
}

// yamlError is a syntax error with its position.
type yamlError struct {
	line, column int
	text         string
}

func (e *yamlError) Error() string { return e.text }

func errorPosition(err error) (line, column int) {
	if e, ok := errors.AsType[*yamlError](err); ok {
		return max(e.line, 1), max(e.column, 1)
	}
	return 1, 1
}

// parseYAML returns the root of the only document, nil when there is none or it is empty.
func parseYAML(data []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var document, second yaml.Node
	if err := loader.Load(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxError(err)
	}
	if err := loader.Load(&second); err == nil {
		return nil, &yamlError{second.Line, second.Column, "a second YAML document begins here; the configuration is a single one"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(err)
	}
	if len(document.Content) == 0 || document.Content[0].ShortTag() == "!!null" {
		return nil, nil
	}
	return document.Content[0], nil
}

func syntaxError(err error) error {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return &yamlError{text: "this is not valid YAML: " + err.Error()}
	}
	text := "this is not valid YAML: "
	if e.ContextMsg != "" {
		text += e.ContextMsg + ": "
	}
	return &yamlError{e.Mark.Line, e.Mark.Column, text + e.Message}
}

// tabHint names the commonest cause of a syntax error.
func tabHint(data []byte, line int) string {
	lines := bytes.Split(data, []byte("\n"))
	if line <= len(lines) && bytes.HasPrefix(bytes.TrimLeft(lines[line-1], " "), []byte("\t")) {
		return "; indent the line with spaces, not with a tab"
	}
	return ""
}

func (l *configLoader) filePlace(line, column int) place {
	return place{fmt.Sprintf("%s:%d:%d", l.file, line, column), line, column}
}

// rejectNode records a mistake at a node's own position.
func (l *configLoader) rejectNode(node *yaml.Node, option, text string) {
	l.rejectAt(l.filePlace(node.Line, node.Column), option, text)
}

// pairs walks over the keys of a mapping that are plain names, reporting all others.
func (l *configLoader) pairs(node *yaml.Node, path string, visit func(key, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch first, twice := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0:
			l.rejectNode(key, path, "expected the name of an option")
		case twice:
			l.rejectNode(key, joinPath(path, key.Value), fmt.Sprintf("is here a second time; the first is on line %d", first))
		default:
			seen[key.Value] = key.Line
			visit(key, value)
		}
	}
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// plain reports whether a node is usable at all; the rest of the decoder then need not know of aliases and tags. Without aliases no small
// file can stand for a large one.
func (l *configLoader) plain(node *yaml.Node, path string) bool {
	l.places[path] = l.filePlace(node.Line, node.Column)
	switch {
	case node.Kind == yaml.AliasNode:
		l.rejectNode(node, path, "aliases (*name) are not supported here; write the value out")
		return false
	case node.Style&yaml.TaggedStyle != 0:
		l.rejectNode(node, path, "tags (!name) are not supported here; write the value alone")
		return false
	}
	return true
}

func (l *configLoader) decodeSection(node *yaml.Node, section reflect.Value, path string) {
	if !l.plain(node, path) || isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		l.rejectNode(node, path, "expected "+expected(section.Type())+", got "+describe(node))
		return
	}
	l.pairs(node, path, func(key, value *yaml.Node) {
		names := []string{}
		for i, field := range reflect.VisibleFields(section.Type()) {
			name := field.Tag.Get("yaml")
			names = append(names, name)
			if name == key.Value {
				l.decodeValue(value, section.Field(i), joinPath(path, name))
				return
			}
		}
		l.rejectNode(key, path, "unknown option "+shown(key.Value)+cmp.Or(didYouMean(key.Value, names), elsewhere(key.Value)))
	})
}

// elsewhere names the sections that do have an option, or a section, of that name: one was left out, or indented wrongly.
func elsewhere(name string) string {
	var sections []string
	c := defaultConfig()
	for _, o := range options(&c) {
		before, _, found := strings.Cut("."+o.path+".", "."+name+".")
		path := joinPath(strings.TrimPrefix(before, "."), name)
		if section := path[:max(0, strings.LastIndexByte(path, '.'))]; found && !slices.Contains(sections, section) {
			sections = append(sections, section)
		}
	}
	switch {
	case len(sections) == 0:
		return ""
	case sections[0] == "":
		return "; it is a section or option of its own: write it at the beginning of a line"
	}
	return "; it belongs in the section " + strings.Join(sections, " or ")
}

func (l *configLoader) decodeValue(node *yaml.Node, v reflect.Value, path string) {
	switch target := v.Addr().Interface().(type) {
	case *[]string:
		l.decodeList(node, target, path)
	case *map[string]headerSource:
		l.decodeHeaders(node, target, path)
	default:
		if isSection(v.Type()) {
			l.decodeSection(node, v, path)
		} else {
			l.decodeScalar(node, v, path)
		}
	}
}

func (l *configLoader) decodeScalar(node *yaml.Node, v reflect.Value, path string) {
	if !l.plain(node, path) {
		return
	}
	if isNull(node) {
		l.rejectNode(node, path, "has no value; expected "+expected(v.Type()))
		return
	}
	_, text := v.Interface().(string)
	if node.Kind != yaml.ScalarNode || !text && node.Style != 0 && v.Kind() != reflect.Int64 {
		l.rejectNode(node, path, "expected "+expected(v.Type())+", got "+describe(node))
		return
	}
	if err := setScalar(v, node.Value); err != nil {
		l.rejectNode(node, path, err.Error())
	}
}

func (l *configLoader) decodeList(node *yaml.Node, list *[]string, path string) {
	if !l.plain(node, path) || isNull(node) {
		return
	}
	if node.Kind != yaml.SequenceNode {
		l.rejectNode(node, path, "expected "+expected(reflect.TypeOf(*list))+", got "+describe(node))
		return
	}
	items := make([]string, len(node.Content))
	for i, item := range node.Content {
		l.decodeScalar(item, reflect.ValueOf(&items[i]).Elem(), fmt.Sprintf("%s[%d]", path, i))
	}
	*list = items
}

func (l *configLoader) decodeHeaders(node *yaml.Node, headers *map[string]headerSource, path string) {
	if !l.plain(node, path) || isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		l.rejectNode(node, path, "expected "+expected(reflect.TypeOf(*headers))+", got "+describe(node))
		return
	}
	l.pairs(node, path, func(key, value *yaml.Node) {
		if source, ok := l.decodeHeader(value, joinPath(path, key.Value)); ok {
			(*headers)[key.Value] = source
		}
	})
}

// decodeHeader never shows a value in a message: it may be a secret in the wrong place.
func (l *configLoader) decodeHeader(node *yaml.Node, path string) (source headerSource, ok bool) {
	if !l.plain(node, path) {
		return source, false
	}
	want := "expected " + expected(reflect.TypeOf(source))
	if node.Kind == yaml.ScalarNode && !isNull(node) {
		return headerSource{Value: node.Value}, true
	}
	if node.Kind != yaml.MappingNode || len(node.Content) != 2 {
		l.rejectNode(node, path, want)
		return source, false
	}
	fields := map[string]*string{"file": &source.File, "env": &source.Env}
	field, known := fields[node.Content[0].Value]
	if !known {
		l.rejectNode(node, path, want)
		return source, false
	}
	before := len(l.mistakes)
	l.decodeScalar(node.Content[1], reflect.ValueOf(field).Elem(), joinPath(path, node.Content[0].Value))
	return source, len(l.mistakes) == before
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }

// describe names what stands in the file, for "got ...", without repeating it: a whole secret may have been put in a section's place.
func describe(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a section"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case node.Style != 0:
		return "text in quotes"
	}
	return "a single value"
}
