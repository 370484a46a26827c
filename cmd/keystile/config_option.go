package main

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// option is one setting of a config: its path in the file, its tags, and the value behind it, which can be set.
type option struct {
	path  string
	field reflect.StructField
	value reflect.Value
}

// options lists every option of c in the order of the file. Sections are not options.
func options(c *config) []option {
	return optionsBelow(reflect.ValueOf(c).Elem(), "")
}

func optionsBelow(section reflect.Value, prefix string) []option {
	var list []option
	for i, field := range reflect.VisibleFields(section.Type()) {
		o := option{path: prefix + field.Tag.Get("yaml"), field: field, value: section.Field(i)}
		if isSection(field.Type) {
			list = append(list, optionsBelow(o.value, o.path+".")...)
		} else {
			list = append(list, o)
		}
	}
	return list
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[headerSource]()
}

// variable is the name of the environment variable that overrides the option.
func (o option) variable() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(o.path, ".", "_"))
}

// choices are the values that the option, or each of its items, may have; none means any.
func (o option) choices() []string {
	if enum := o.field.Tag.Get("enum"); enum != "" {
		return strings.Split(enum, ",")
	}
	return nil
}

// setText sets the option from one piece of text, as environment and flags give it: a list is separated by commas.
func (o option) setText(text string) error {
	switch {
	case o.field.Type.Kind() == reflect.Map:
		return fmt.Errorf("is a map and can only be set in the configuration file")
	case o.field.Type.Kind() == reflect.Slice:
		o.value.Set(reflect.ValueOf(splitList(text)))
		return nil
	default:
		return setScalar(o.value, text)
	}
}

func splitList(text string) []string {
	list := []string{}
	if strings.TrimSpace(text) == "" {
		return list
	}
	for item := range strings.SplitSeq(text, ",") {
		list = append(list, strings.TrimSpace(item))
	}
	return list
}

// setScalar sets v from text, or says what it expected and leaves v alone.
func setScalar(v reflect.Value, text string) error {
	var parsed any
	var err error
	switch v.Interface().(type) {
	case string:
		parsed = text
	case bool:
		parsed, err = parseBool(text)
	case int:
		parsed, err = strconv.Atoi(text)
	case float64:
		parsed, err = parseFloat(text)
	case time.Duration:
		parsed, err = time.ParseDuration(text)
	case size:
		parsed, err = parseSize(text)
	default:
		return fmt.Errorf("options of type %s are not supported", v.Type())
	}
	if err != nil {
		return fmt.Errorf("expected %s, got %s", expected(v.Type()), shown(text))
	}
	v.Set(reflect.ValueOf(parsed))
	return nil
}

// parseBool knows two words only: strconv's "t" and "1" and YAML 1.1's "on" are more often slips than answers.
func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, strconv.ErrSyntax
}

func parseFloat(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return 0, strconv.ErrRange
	}
	return f, err
}

// expected names what an option of type t takes, for the sentence "expected ..., got ...".
func expected(t reflect.Type) string {
	switch reflect.Zero(t).Interface().(type) {
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case float64:
		return "a number"
	case time.Duration:
		return "a duration with its unit such as 500ms, 30s or 5m"
	case size:
		return "a size in bytes such as 65536 or 64MiB"
	case []string:
		return "a list such as [a, b]"
	case map[string]headerSource:
		return "header names with their values, each on a line of its own"
	case headerSource:
		return "text, {file: path} or {env: NAME}"
	}
	if isSection(t) {
		return "a section: options on lines of their own, indented"
	}
	return "text"
}

// shown quotes a value for an error message: shortened, and without what stands before an @, where URLs carry passwords.
func shown(text string) string {
	if text == "" {
		return "nothing"
	}
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		text = "..." + text[at:]
	}
	if runes := []rune(text); len(runes) > 60 {
		text = string(runes[:60]) + "..."
	}
	return strconv.Quote(text)
}

// size is a number of bytes.
type size int64

var _ encoding.TextUnmarshaler = (*size)(nil)

// sizeUnits go from the largest down, as String wants them.
func sizeUnits() []sizeUnit {
	return []sizeUnit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

type sizeUnit struct {
	name  string
	bytes int64
}

// parseSize reads a whole number with an optional unit of B, KiB, MiB, GiB or TiB. Decimal units are refused: too many people mean
// 1024 when they write KB.
func parseSize(text string) (size, error) {
	number, factor := text, int64(1)
	for _, unit := range sizeUnits() {
		if before, found := strings.CutSuffix(text, unit.name); found {
			number, factor = strings.TrimRight(before, " "), unit.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt64/factor || n < math.MinInt64/factor {
		return 0, strconv.ErrRange
	}
	return size(n * factor), nil
}

// String is the size in the largest unit that needs no fraction; zero and below are plain numbers.
func (s size) String() string {
	for _, unit := range sizeUnits() {
		if s > 0 && int64(s)%unit.bytes == 0 && unit.bytes > 1 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalYAML writes the size the way people read it.
func (s size) MarshalYAML() (any, error) {
	if s <= 0 || s%1024 != 0 {
		return int64(s), nil
	}
	return s.String(), nil
}

// UnmarshalText reads what parseSize reads.
func (s *size) UnmarshalText(text []byte) error {
	parsed, err := parseSize(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// nearest is the name most like word, for "did you mean"; empty when none is close.
func nearest(word string, names []string) string {
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, name := range names {
		if d := editDistance(strings.ToLower(word), strings.ToLower(name)); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions and substitutions (Levenshtein) between two words. Long words are far from everything.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return math.MaxInt
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitution := diagonal
			if a[i] != b[j] {
				substitution++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitution, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func didYouMean(word string, names []string) string {
	if name := nearest(word, names); name != "" {
		return fmt.Sprintf("; did you mean %q?", name)
	}
	return ""
}
