package main

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEveryOptionHasAVariableOfItsOwn(t *testing.T) {
	seen := map[string]string{"KEYSTILE_CONFIG": "the file's name", "KEYSTILE_ADMIN_TOKEN": "the administrator's token", addressVariable: "where the admin API is"}
	c := defaultConfig()
	for _, o := range options(&c) {
		if other, twice := seen[o.variable()]; twice {
			t.Errorf("%s belongs to %s and to %s", o.variable(), other, o.path)
		}
		seen[o.variable()] = o.path
	}
	if seen["KEYSTILE_PROXY_UPSTREAM_URL"] != "proxy.upstream.url" {
		t.Error("proxy.upstream.url is not KEYSTILE_PROXY_UPSTREAM_URL")
	}
}

// A slip in a tag would switch a check off without a word.
func TestEveryTagOfAnOptionMeansSomething(t *testing.T) {
	c := defaultConfig()
	for _, o := range options(&c) {
		if rule := o.field.Tag.Get("is"); rule != "" && textRules()[rule] == nil {
			t.Errorf("%s: there is no rule %q", o.path, rule)
		}
		if _, bounded := o.minimum(); bounded != (o.field.Tag.Get("min") != "") {
			t.Errorf("%s: its min %q is not a value of its type", o.path, o.field.Tag.Get("min"))
		}
		if expected(o.field.Type) == "text" && o.field.Type.Kind() != reflect.String {
			t.Errorf("%s: no words for what type %s expects", o.path, o.field.Type)
		}
	}
}

func TestEveryNumberHasALowestValue(t *testing.T) {
	c := defaultConfig()
	for _, o := range options(&c) {
		if _, bounded := o.minimum(); !bounded && (o.value.CanInt() || o.value.CanFloat()) {
			t.Errorf("%s has no min tag", o.path)
		}
	}
}

func TestScalarsAreReadFromText(t *testing.T) {
	for _, test := range []struct {
		text string
		want any
	}{
		{"", ""},
		{"a, b", "a, b"},
		{"true", true},
		{"false", false},
		{"0", 0},
		{"-3", -3},
		{"12", 12},
		{"0.5", 0.5},
		{"3", 3.0},
		{"90s", 90 * time.Second},
		{"1h30m", 90 * time.Minute},
		{"0", time.Duration(0)},
		{"65536", size(65536)},
		{"10B", size(10)},
		{"64MiB", size(64 << 20)},
		{"64 MiB", size(64 << 20)},
		{"1TiB", size(1 << 40)},
	} {
		v := reflect.New(reflect.TypeOf(test.want)).Elem()
		if err := setScalar(v, test.text); err != nil {
			t.Errorf("%q as %T: %v", test.text, test.want, err)
		} else if v.Interface() != test.want {
			t.Errorf("%q as %T: got %v", test.text, test.want, v.Interface())
		}
	}
}

func TestScalarsThatAreNotOneAreRefusedAndLeaveTheValue(t *testing.T) {
	for _, test := range []struct {
		before any
		texts  []string
		want   string
	}{
		{true, []string{"", "yes", "on", "1", "TRUE", "t", "no"}, "expected true or false"},
		{7, []string{"", "1.5", "1e3", "0x10", "1_000", " 1", "ten", "99999999999999999999"}, "expected a whole number"},
		{1.5, []string{"", "NaN", "Inf", "-inf", "1,5", "1e999"}, "expected a number"},
		{time.Second, []string{"", "5", "5 s", "1d", "10 minutes", "s", "9999999h"}, "expected a duration with its unit"},
		{size(9), []string{"", "64MB", "64M", "1.5MiB", "MiB", "64mib", "9223372036854775807KiB", "8388608TiB"}, "expected a size in bytes"},
	} {
		for _, text := range test.texts {
			v := reflect.New(reflect.TypeOf(test.before)).Elem()
			v.Set(reflect.ValueOf(test.before))
			err := setScalar(v, text)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "got "+shown(text)) {
				t.Errorf("%q as %T: got error %v, want %q", text, test.before, err, test.want)
			}
			if v.Interface() != test.before {
				t.Errorf("%q as %T: the value changed to %v", text, test.before, v.Interface())
			}
		}
	}
}

func TestUnsupportedTypeIsAnErrorNotAPanic(t *testing.T) {
	var c complex128
	if err := setScalar(reflect.ValueOf(&c).Elem(), "1"); err == nil {
		t.Error("want an error")
	}
}

func TestSizeIsPrintedSoThatItReadsBack(t *testing.T) {
	for _, test := range []struct {
		bytes size
		text  string
	}{
		{0, "0"},
		{1, "1"},
		{1023, "1023"},
		{1024, "1KiB"},
		{1536, "1536"},
		{64 << 20, "64MiB"},
		{3 << 40, "3TiB"},
		{-1024, "-1024"},
		{math.MaxInt64, "9223372036854775807"},
	} {
		if got := test.bytes.String(); got != test.text {
			t.Errorf("%d: got %q, want %q", int64(test.bytes), got, test.text)
		}
		if back, err := parseSize(test.text); err != nil || back != test.bytes {
			t.Errorf("%q reads back as %d, %v", test.text, back, err)
		}
	}
}

func TestListsAreSeparatedByCommas(t *testing.T) {
	for text, want := range map[string][]string{
		"":          {},
		"  ":        {},
		"a":         {"a"},
		"a,b":       {"a", "b"},
		" a , b c ": {"a", "b c"},
		"a,,b":      {"a", "", "b"},
		"[a, b]":    {"[a", "b]"},
	} {
		if got := splitList(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestMessagesNeverShowWhatStandsBeforeAnAt(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "nothing",
		"plain":                       `"plain"`,
		"user:hunter2@host:80":        `"...@host:80"`,
		"http://user:hunter2@host":    `"...@host"`,
		"a@b@c":                       `"...@c"`,
		"line\nbreak\x00":             `"line\nbreak\x00"`,
		strings.Repeat("ж", 61):       `"` + strings.Repeat("ж", 60) + `..."`,
		"redis://:hunter2@127.0.0.1:": `"...@127.0.0.1:"`,
	} {
		if got := shown(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestNearestNameIsSuggestedOnlyWhenClose(t *testing.T) {
	names := []string{"upstream", "listen", "tls", "trusted_proxies", "key_header"}
	for word, want := range map[string]string{
		"upsteam":               "upstream",
		"UPSTREAM":              "upstream",
		"listn":                 "listen",
		"lisetn":                "listen",
		"tsl":                   "",
		"tl":                    "tls",
		"trusted_proxy":         "trusted_proxies",
		"keyheader":             "key_header",
		"something":             "",
		"":                      "",
		strings.Repeat("a", 65): "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"a", "", 1},
		{"", "abc", 3},
		{"kitten", "sitting", 3},
		{"flaw", "lawn", 2},
		{"same", "same", 0},
		{strings.Repeat("x", 65), "x", math.MaxInt},
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("%q to %q: got %d, want %d", test.a, test.b, got, test.want)
		}
		if got := editDistance(test.b, test.a); got != test.want {
			t.Errorf("%q to %q: got %d, want %d", test.b, test.a, got, test.want)
		}
	}
}
