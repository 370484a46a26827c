package main

import (
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// manual is the path of the shipped config.yaml, seen from this package.
const manual = "../../config.yaml"

func readManual(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestShippedConfigEqualsDefaults(t *testing.T) {
	got, warnings, err := parseConfig("config.yaml", readManual(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("the shipped configuration has warnings: %q", warnings)
	}
	if diff := cmp.Diff(defaultConfig(), got); diff != "" {
		t.Errorf("config.yaml differs from the defaults (-default +file):\n%s", diff)
	}
}

// The yaml package's own strict decoder must agree with ours about names and values.
func TestShippedConfigDecodesStrictlyWithTheLibraryAlone(t *testing.T) {
	got := config{}
	err := yaml.Load(readManual(t), &got, yaml.WithKnownFields(), yaml.WithUniqueKeys())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaultConfig(), got); diff != "" {
		t.Errorf("config.yaml differs from the defaults (-default +file):\n%s", diff)
	}
}

func TestShippedConfigContainsEveryOption(t *testing.T) {
	l := newConfigLoader("config.yaml", defaultConfig())
	l.decodeFile(readManual(t))
	c := defaultConfig()
	for _, o := range options(&c) {
		if _, found := l.places[o.path]; !found {
			t.Errorf("config.yaml does not contain %s", o.path)
		}
	}
}

// The comment above each option and section begins with the words of its doc tag, which the JSON Schema shows too.
func TestShippedConfigDocumentsEveryOption(t *testing.T) {
	lines := strings.Split(string(readManual(t)), "\n")
	walkFields(reflect.TypeFor[config](), "", func(path string, field reflect.StructField) {
		doc := field.Tag.Get("doc")
		if doc == "" {
			t.Errorf("%s has no doc tag", path)
		}
		at := lineOf(t, lines, path)
		if comment := commentAbove(lines, at); !strings.HasPrefix(comment, doc) {
			t.Errorf("config.yaml:%d: the comment of %s does not begin with its doc tag:\n got %q\nwant %q", at+1, path, comment, doc)
		}
	})
}

// walkFields visits sections and options alike.
func walkFields(section reflect.Type, prefix string, visit func(path string, field reflect.StructField)) {
	for _, field := range reflect.VisibleFields(section) {
		path := prefix + field.Tag.Get("yaml")
		visit(path, field)
		if isSection(field.Type) {
			walkFields(field.Type, path+".", visit)
		}
	}
}

// lineOf is the index of the line that holds the key of path.
func lineOf(t *testing.T, lines []string, path string) int {
	t.Helper()
	at, indent := 0, ""
	for name := range strings.SplitSeq(path, ".") {
		next := slices.IndexFunc(lines[at:], func(line string) bool { return strings.HasPrefix(line, indent+name+":") })
		if next < 0 {
			t.Fatalf("config.yaml has no line for %s", path)
		}
		at, indent = at+next, indent+"  "
	}
	return at
}

func commentAbove(lines []string, at int) string {
	first := at
	for first > 0 && strings.HasPrefix(strings.TrimSpace(lines[first-1]), "#") {
		first--
	}
	var words []string
	for _, line := range lines[first:at] {
		words = append(words, strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "#"))...)
	}
	return strings.Join(words, " ")
}

func TestDefaultsPassTheirOwnCheck(t *testing.T) {
	if err := defaultConfig().check(); err != nil {
		t.Error(err)
	}
	if cautions := defaultConfig().cautions(); len(cautions) > 0 {
		t.Errorf("the defaults need no warning, got %q", cautions)
	}
}

// Names and defaults that users, images and deployments rely on.
func TestDefaultsThatStay(t *testing.T) {
	c := defaultConfig()
	for name, pair := range map[string][2]any{
		"proxy.listen":                 {":8080", c.Proxy.Listen},
		"proxy.upstream.url":           {"http://127.0.0.1:9000", c.Proxy.Upstream.URL},
		"admin on loopback":            {"127.0.0.1:8081", c.Admin.Listen},
		"metrics need a token":         {false, c.Admin.MetricsPublic},
		"ten keys":                     {10, c.Keys.PerAccount},
		"upgrades are off":             {false, c.Proxy.WebSocket},
		"request headers":              {5 * time.Second, c.Proxy.Timeouts.RequestHeaders},
		"upstream idle below uvicorn":  {4 * time.Second, c.Proxy.Upstream.Timeouts.Idle},
		"time to generate":             {600 * time.Second, c.Proxy.Upstream.Timeouts.ResponseHeaders},
		"silence":                      {300 * time.Second, c.Proxy.Upstream.Timeouts.Silence},
		"drain":                        {10 * time.Second, c.Proxy.DrainTimeout},
		"body":                         {size(64 << 20), c.Proxy.MaxBody},
		"nobody's forwarding headers":  {0, len(c.Proxy.TrustedProxies)},
		"every carrier is read":        {0, len(c.Proxy.IgnoreCarriers)},
		"store":                        {"bolt", c.Store.Driver},
		"staleness":                    {30 * time.Second, c.Store.Redis.MaxStaleness},
		"one hash tag for all entries": {"{keystile}", c.Store.Redis.Prefix},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: want %v, got %v", name, pair[0], pair[1])
		}
	}
}

// A default that is shared between two configs would let a test or a reload change the other.
func TestDefaultsAreFreshEachTime(t *testing.T) {
	changed := defaultConfig()
	changed.Proxy.Upstream.Headers["X-Team"] = headerSource{Value: "a"}
	changed.Admin.Hosts = append(changed.Admin.Hosts, "a")
	if len(defaultConfig().Proxy.Upstream.Headers) != 0 || len(defaultConfig().Admin.Hosts) != 0 {
		t.Error("changing one default config changed the next")
	}
}

func TestUpstreamURLAndTrustedProxiesAreParsed(t *testing.T) {
	c := defaultConfig()
	c.Proxy.Upstream.URL = "https://api.example.com:8443/base"
	c.Proxy.TrustedProxies = []string{"10.0.0.0/8", "192.0.2.7", "::ffff:192.0.2.8", "2001:db8::/32"}
	u, err := c.upstreamURL()
	if err != nil || u.Host != "api.example.com:8443" || u.Path != "/base" {
		t.Errorf("upstreamURL: got %v, %v", u, err)
	}
	got, err := c.trustedProxies()
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"),
		netip.MustParsePrefix("192.0.2.8/32"), netip.MustParsePrefix("2001:db8::/32"),
	}
	if !slices.Equal(got, want) {
		t.Errorf("trustedProxies: got %v, want %v", got, want)
	}
}

func TestTrustedProxiesOfAnUncheckedConfigAreAnErrorNotAnEmptyList(t *testing.T) {
	c := defaultConfig()
	c.Proxy.TrustedProxies = []string{"everybody"}
	if _, err := c.trustedProxies(); err == nil {
		t.Error("want an error")
	}
}
