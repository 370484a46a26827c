package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// decodedSchema is the schema as a stranger's program sees it.
func decodedSchema(t *testing.T) map[string]any {
	t.Helper()
	var out bytes.Buffer
	if err := writeSchema(&out); err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(out.Bytes(), &root); err != nil {
		t.Fatal(err)
	}
	return root
}

func propertiesOf(t *testing.T, schema map[string]any) map[string]any {
	t.Helper()
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		t.Fatalf("no properties in %v", schema)
	}
	return properties
}

// findSchema follows a path through the properties.
func findSchema(t *testing.T, root map[string]any, path ...string) map[string]any {
	t.Helper()
	for _, name := range path {
		next, found := propertiesOf(t, root)[name].(map[string]any)
		if !found {
			t.Fatalf("the schema has no %v", path)
		}
		root = next
	}
	return root
}

// eachProperty visits every property of every section.
func eachProperty(schema map[string]any, prefix string, visit func(path string, property map[string]any)) {
	properties, _ := schema["properties"].(map[string]any)
	for name, value := range properties {
		property := value.(map[string]any)
		visit(prefix+name, property)
		eachProperty(property, prefix+name+".", visit)
	}
}

func TestSchemaSaysWhichDialectItIsIn(t *testing.T) {
	if got := decodedSchema(t)["$schema"]; got != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("got %v", got)
	}
}

func TestEveryPropertyOfTheSchemaHasADescription(t *testing.T) {
	count := 0
	eachProperty(decodedSchema(t), "", func(path string, property map[string]any) {
		count++
		if text, _ := property["description"].(string); len(text) < 15 {
			t.Errorf("%s has the description %q", path, text)
		}
	})
	want := 0
	walkFields(reflect.TypeFor[config](), "", func(string, reflect.StructField) { want++ })
	if count != want {
		t.Errorf("the schema has %d properties, the configuration %d", count, want)
	}
}

func TestSchemaRefusesUnknownOptions(t *testing.T) {
	root := decodedSchema(t)
	sections := []map[string]any{root}
	eachProperty(root, "", func(_ string, property map[string]any) {
		if property["properties"] != nil {
			sections = append(sections, property)
		}
	})
	if len(sections) < 10 {
		t.Errorf("found only %d sections", len(sections))
	}
	for _, section := range sections {
		if section["additionalProperties"] != false {
			t.Errorf("this section accepts options that do not exist: %v", section["description"])
		}
	}
}

func TestSchemaHasTheDefaultOfEveryOption(t *testing.T) {
	root := decodedSchema(t)
	c := defaultConfig()
	for _, o := range options(&c) {
		got, found := schemaAt(t, root, o.path)["default"]
		want := o.value.Interface()
		switch value := want.(type) {
		case size:
			want = value.String()
		case time.Duration:
			want = value.String()
		case []string:
			want = []any{}
		case map[string]headerSource:
			want = map[string]any{}
		case int:
			want = float64(value)
		}
		if !found || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got default %#v, want %#v", o.path, got, want)
		}
	}
}

func schemaAt(t *testing.T, root map[string]any, path string) map[string]any {
	t.Helper()
	return findSchema(t, root, strings.Split(path, ".")...)
}

func TestSchemaKnowsChoicesAndBounds(t *testing.T) {
	root := decodedSchema(t)
	for path, want := range map[string][]any{
		"log.level":    {"debug", "info", "warn", "error"},
		"log.format":   {"auto", "text", "json"},
		"proxy.engine": {"auto", "standard"},
		"store.driver": {"bolt", "redis"},
	} {
		if got := schemaAt(t, root, path)["enum"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	items := schemaAt(t, root, "proxy.ignore_carriers")["items"].(map[string]any)
	if want := []any{"key_secret", "bearer", "x_api_key", "basic"}; !reflect.DeepEqual(items["enum"], want) {
		t.Errorf("carriers: got %v", items["enum"])
	}
	for path, want := range map[string]float64{"keys.per_account": 1, "audit.keep": 1, "proxy.max_connections": 0, "proxy.default_rate.per_second": 0, "proxy.max_body": 0} {
		if got := schemaAt(t, root, path)["minimum"]; got != want {
			t.Errorf("%s: got minimum %v, want %v", path, got, want)
		}
	}
}

func TestSchemaHasTheTypesThatTheFileHas(t *testing.T) {
	root := decodedSchema(t)
	for path, want := range map[string]any{
		"proxy":                         []any{"object", "null"},
		"proxy.listen":                  "string",
		"proxy.websocket":               "boolean",
		"proxy.max_connections":         "integer",
		"proxy.default_rate.per_second": "number",
		"proxy.drain_timeout":           "string",
		"proxy.max_body":                []any{"string", "integer"},
		"proxy.trusted_proxies":         []any{"array", "null"},
		"proxy.upstream.headers":        []any{"object", "null"},
	} {
		if got := schemaAt(t, root, path)["type"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

func TestSchemaAcceptsHeadersAsTextOrReference(t *testing.T) {
	header := schemaAt(t, decodedSchema(t), "proxy.upstream.headers")["additionalProperties"].(map[string]any)
	var required []string
	for _, way := range header["oneOf"].([]any) {
		if names, found := way.(map[string]any)["required"].([]any); found {
			required = append(required, fmt.Sprint(names...))
		}
	}
	if !slices.Equal(required, []string{"file", "env"}) {
		t.Errorf("got references by %q", required)
	}
}

// What the patterns accept, the parsers must accept, and the other way round.
func TestPatternsOfTheSchemaAgreeWithTheParsers(t *testing.T) {
	durations := regexp.MustCompile(durationPattern)
	for _, text := range []string{"0s", "5s", "1h30m", "1.5h", ".5s", "1.s", "100ms", "5µs", "", "5", "s", "5 s", "1d", "5S", "."} {
		_, err := time.ParseDuration(text)
		if matches := durations.MatchString(text); matches != (err == nil) {
			t.Errorf("duration %q: pattern %v, parser %v", text, matches, err)
		}
	}
	sizes := regexp.MustCompile(sizePattern)
	for _, text := range []string{"0", "65536", "64MiB", "64 MiB", "1B", "2TiB", "", "MiB", "64MB", "64mib", "1.5GiB", "64MiB "} {
		_, err := parseSize(text)
		if matches := sizes.MatchString(text); matches != (err == nil) {
			t.Errorf("size %q: pattern %v, parser %v", text, matches, err)
		}
	}
	c := defaultConfig()
	for _, o := range options(&c) {
		if d, isDuration := o.value.Interface().(time.Duration); isDuration && !durations.MatchString(d.String()) {
			t.Errorf("%s: its default %s does not match the pattern", o.path, d)
		}
	}
}
