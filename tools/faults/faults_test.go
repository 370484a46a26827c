package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryFaultAppliesToTheTree is cheap, so that a change which leaves a patch behind is told at once.
func TestEveryFaultAppliesToTheTree(t *testing.T) {
	var out, complaints bytes.Buffer
	if code := run([]string{"-check", "../.."}, &out, &complaints); code != 0 || out.String() != "8 patches apply\n" {
		t.Errorf("exit %d: %s%s", code, out.String(), complaints.String())
	}
}

// TestEveryFaultNamesATestOfTheTree reads the sources, because running them takes minutes.
func TestEveryFaultNamesATestOfTheTree(t *testing.T) {
	faults, err := readFaults("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		paths, err := filepath.Glob(filepath.Join("../..", f.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(text, []byte("func "+f.test+"("))
		}
		if !found {
			t.Errorf("%s names %s, which is not in %s", f.name, f.test, f.pkg)
		}
	}
}

const (
	source = "package a\n\nfunc two() int { return 2 }\n\nfunc three() int { return 3 }\n"
	tests  = "package a\n\nimport \"testing\"\n\nfunc TestTwo(t *testing.T) {\n\tif n := two(); n != 2 {\n\t\tt.Errorf(\"two is %d\", n)\n\t}\n}\n" +
		"\nfunc TestOfNothing(t *testing.T) {}\n\nfunc TestSkipped(t *testing.T) { t.Skip(\"not here\") }\n\nfunc TestFails(t *testing.T) { t.Error(\"always\") }\n"
)

// seeding returns a patch that puts another line in the place of the third, for a test.
func seeding(test, line string) string {
	return "Breaks: two is another number\nPromise: two is 2\nTest: ./a " + test + "\n\n" +
		"diff --git a/a/a.go b/a/a.go\n--- a/a/a.go\n+++ b/a/a.go\n@@ -2,3 +2,3 @@\n \n-func two() int { return 2 }\n+" + line + "\n \n"
}

// row is a tree with these patches, the arguments, and what is expected.
type row struct {
	patches map[string]string
	flags   []string
	code    int
	says    []string
}

func rows() map[string]row {
	const three = "func two() int { return 3 }"
	return map[string]row{
		"a fault that its test sees is caught, and the next finds the tree as it was": {
			patches: map[string]string{"1": seeding("TestTwo", three), "2": seeding("TestTwo", "func two() int { return 4 }")},
			says:    []string{"caught: 1, ", "a_test.go:7: two is 3", "a_test.go:7: two is 4", "2 of 2 caught\n"},
		},
		"a fault that its test does not see is not caught": {
			patches: map[string]string{"1": seeding("TestOfNothing", three), "2": seeding("TestTwo", three)}, code: 1,
			says: []string{"NOT CAUGHT: 1, ", "TestOfNothing passes although two is another number", "1 of 2 caught\n"},
		},
		"a fault that does not compile is not caught": {
			patches: map[string]string{"1": seeding("TestTwo", "func two() int { return \"\" }")}, code: 1,
			says: []string{"TestTwo did not come to its end", "cannot use", "0 of 1 caught\n"},
		},
		"a fault that ends the process is not caught": {
			patches: map[string]string{"1": seeding("TestTwo", `func two() int { go panic("now"); select {} }`)}, code: 1,
			says: []string{"TestTwo did not come to its end", "panic: now", "0 of 1 caught\n"},
		},
		"a test that fails without a fault proves nothing": {
			patches: map[string]string{"1": seeding("TestFails", three)}, code: 2, says: []string{"without a fault, the tests of ./a do not pass"},
		},
		"a test that is skipped proves nothing": {
			patches: map[string]string{"1": seeding("TestSkipped", three)}, code: 2, says: []string{"TestSkipped is not there, or was skipped"},
		},
		"a test that is missing is told": {
			patches: map[string]string{"1": seeding("TestOfYesterday", three)}, code: 2, says: []string{"TestOfYesterday is not there, or was skipped"},
		},
		"a patch that does not apply is told before anything runs": {
			patches: map[string]string{"1": seeding("TestTwo", three), "2": strings.ReplaceAll(seeding("TestTwo", three), "-func two", "-func one")}, code: 2,
			says: []string{"2 does not apply to this tree any more"},
		},
		"a patch that does not apply is told by -check": {
			patches: map[string]string{"1": strings.ReplaceAll(seeding("TestTwo", three), "-func two", "-func one")}, flags: []string{"-check"}, code: 2,
			says: []string{"1 does not apply to this tree any more"},
		},
		"-check runs nothing": {
			patches: map[string]string{"1": seeding("TestFails", three)}, flags: []string{"-check"}, says: []string{"1 patches apply\n"},
		},
		"a head without a test is told": {
			patches: map[string]string{"1": strings.ReplaceAll(seeding("", three), "Test:", "Tests:")}, code: 2, says: []string{"lacks"},
		},
		"a tree without faults is told": {code: 2, says: []string{"there is no patch in tools/faults"}},
		"a wrong flag is told":          {flags: []string{"-every"}, code: 2, says: []string{"-every"}},
	}
}

func TestCaughtIsOnlyAFaultThatItsTestSees(t *testing.T) {
	for name, c := range rows() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := repository(t, c.patches)
			var out bytes.Buffer
			code := run(append(c.flags, folder), &out, &out)
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			for _, part := range c.says {
				if !strings.Contains(out.String(), part) {
					t.Errorf("output lacks %q", part)
				}
			}
			if text, err := os.ReadFile(filepath.Join(folder, "a/a.go")); err != nil || string(text) != source {
				t.Errorf("the tree was changed (%v): %s", err, text)
			}
			if t.Failed() {
				t.Log(out.String())
			}
		})
	}
}

// repository makes a git repository with a package, nothing committed, and patches.
func repository(t *testing.T, patches map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	files := map[string]string{"go.mod": "module example\n\ngo 1.26.0\n", "a/a.go": source, "a/a_test.go": tests}
	for name, text := range patches {
		files["tools/faults/"+name+".patch"] = text
	}
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git := exec.Command("git", "init", "-q")
	git.Dir = folder
	if out, err := git.CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	return folder
}
