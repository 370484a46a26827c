package admin

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// consoleLink finds the files that the page loads at once.
var consoleLink = regexp.MustCompile(`(?:href|src)="(/[^"]+)"`)

// consolePaths are where the files of the console are, the page first.
func consolePaths(t *testing.T) []string {
	t.Helper()
	entries, err := consoleFiles.ReadDir(consoleFolder)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{"/"}
	for _, entry := range entries {
		if entry.Name() != consolePage {
			paths = append(paths, "/"+entry.Name())
		}
	}
	return paths
}

// firstPaths are the page and the files that it loads at once.
func firstPaths(t *testing.T, b *bench) []string {
	t.Helper()
	paths := []string{"/"}
	for _, link := range consoleLink.FindAllStringSubmatch(b.do(b.request("GET", "/", "")).wants(t, 200, "").text, -1) {
		paths = append(paths, link[1])
	}
	return paths
}

func TestConsoleIsServedWithoutTokenAndWithAPolicyFromNone(t *testing.T) {
	b := newBench(t)
	for _, path := range consolePaths(t) {
		got := b.do(b.request("GET", path, "")).wants(t, 200, "")
		for name, want := range map[string]string{
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, got.header.Get(name))
			}
		}
		policy := strings.Split(got.header.Get("Content-Security-Policy"), "; ")
		for _, want := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "form-action 'self'",
			"base-uri 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
		} {
			if !slices.Contains(policy, want) {
				t.Errorf("%s: the policy lacks %s: %q", path, want, policy)
			}
		}
		if strings.Contains(strings.Join(policy, " "), "unsafe") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
	}
}

func TestConsoleFilesHaveTheirMediaTypes(t *testing.T) {
	b := newBench(t)
	want := map[string]string{
		"": "text/html; charset=utf-8", ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	}
	for _, at := range consolePaths(t) {
		if got := b.do(b.request("GET", at, "")).header.Get("Content-Type"); got != want[path.Ext(at)] || got == "" {
			t.Errorf("%s is %q", at, got)
		}
	}
}

// TestConsoleIsThereWithin6RequestsAnd60KB: the page, what it loads, the session, and the list of keys.
func TestConsoleIsThereWithin6RequestsAnd60KB(t *testing.T) {
	b := newBench(t)
	for range testLimit {
		b.create("")
	}
	requests, size := 2, len(b.send("GET", "/api/v1/session", "").text)+len(b.send("GET", "/api/v1/keys", "").text)
	for _, path := range firstPaths(t, b) {
		requests++
		size += len(b.do(b.request("GET", path, "")).text)
	}
	if requests > 6 || size > 60_000 {
		t.Errorf("the console takes %d requests and %d bytes", requests, size)
	}
}

// TestConsoleLoadsEachFileThatIsEmbedded: at once, by an import, or by its name when it is needed.
func TestConsoleLoadsEachFileThatIsEmbedded(t *testing.T) {
	b := newBench(t)
	var all strings.Builder
	paths := consolePaths(t)
	for _, path := range paths {
		all.WriteString(b.do(b.request("GET", path, "")).text)
	}
	for _, path := range paths[1:] {
		file, name := strings.TrimPrefix(path, "/"), strings.TrimSuffix(strings.TrimPrefix(path, "/"), ".js")
		named := regexp.MustCompile(`"\.?/` + regexp.QuoteMeta(file) + `"|oad(?:ForAdministrator)?\("` + regexp.QuoteMeta(name) + `"\)|#` + name + `"`)
		if !named.MatchString(all.String()) {
			t.Errorf("nothing loads %s", path)
		}
	}
}

// TestConsoleHasNoInlineCodeAndWritesTextAsText: the policy would stop both, but leave a broken page.
func TestConsoleHasNoInlineCodeAndWritesTextAsText(t *testing.T) {
	inline := regexp.MustCompile(`<style|\sstyle=|\son[a-z]+\s*=|javascript:|<script(?:[^>]*)>[^<]`)
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|\beval\b|new Function|createContextualFragment`)
	b := newBench(t)
	for _, path := range consolePaths(t) {
		text := b.do(b.request("GET", path, "")).text
		if path == "/" || strings.HasSuffix(path, ".html") {
			if found := inline.FindString(text); found != "" {
				t.Errorf("the page has %q", found)
			}
		} else if found := markup.FindString(text); found != "" {
			t.Errorf("%s has %s", path, found)
		}
	}
}

func TestConsoleAnswersOnlyToItsNamesAndOnlyReading(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Hosts = []string{"admin.example"} })
	for _, path := range consolePaths(t) {
		request := b.request("GET", path, "")
		request.Host = "rebound.example"
		b.do(request).wants(t, 421, "unknown_host")
		request = b.request("GET", path, "")
		request.Host = "admin.example:8081"
		b.do(request).wants(t, 200, "")
		b.send("POST", path, "").wants(t, 405, "method_not_allowed")
	}
	for _, path := range []string{"/index.html", "/console", "/console/", "/console/index.html", "/../admin.go"} {
		b.do(b.request("GET", path, "")).wants(t, 404, "not_found")
	}
}
