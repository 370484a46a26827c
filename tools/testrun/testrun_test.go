package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree writes a module of the given files and makes it the working directory.
func tree(t *testing.T, files map[string]string) {
	t.Helper()
	folder := t.TempDir()
	files["go.mod"] = "module example\n\ngo 1.26.0\n"
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(folder)
}

// outcome runs the command and returns its exit code, all it printed, and the last line of that.
func outcome(t *testing.T, args ...string) (code int, out, last string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(args, &stdout, &stderr)
	lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
	return code, stdout.String() + stderr.String(), lines[len(lines)-1]
}

const (
	passing  = "package a\nimport \"testing\"\nfunc TestOne(t *testing.T) { t.Log(\"quiet\"); t.Run(\"sub\", func(t *testing.T) {}) }\n"
	failing  = "package b\nimport \"testing\"\nfunc TestTwo(t *testing.T) { t.Log(\"quiet\") }\nfunc TestBad(t *testing.T) { t.Run(\"deep\", func(t *testing.T) { t.Error(\"loud\") }) }\n"
	skipping = "package c\nimport \"testing\"\nfunc TestThree(t *testing.T) { t.Run(\"row\", func(t *testing.T) { t.Skip(\"no engine\") }) }\n"
	crashing = "package d\nimport \"testing\"\nfunc TestFour(t *testing.T) { panic(\"boom\") }\n"
	measured = "//go:build !race\n\npackage a\nimport \"testing\"\nfunc TestMeasuredCount(t *testing.T) {}\n"
)

func TestVerdictsOnRealRunsOfGoTest(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		list  string
		args  []string
		code  int
		last  string
		says  []string
		hides []string
	}{
		"tests that pass are counted, with their subtests, and print one line": {
			files: map[string]string{"a/a_test.go": passing},
			args:  []string{"-whole", "--", "./..."},
			last:  "2 passed, 0 failed, 0 skipped",
			says:  []string{"ok  \texample/a"}, hides: []string{"quiet", "=== RUN", "PASS"},
		},
		"a failing test prints all it said and nothing of its neighbours": {
			files: map[string]string{"a/a_test.go": passing, "b/b_test.go": failing},
			args:  []string{"--", "./..."}, code: 1,
			last: "3 passed, 2 failed, 0 skipped",
			says: []string{"ok  \texample/a", "loud", "--- FAIL: TestBad/deep", "FAIL\texample/b"}, hides: []string{"quiet", "=== RUN"},
		},
		"a skip that is not listed fails and is named with its reason": {
			files: map[string]string{"c/c_test.go": skipping},
			args:  []string{"--", "./..."}, code: 1,
			last: "1 passed, 0 failed, 1 skipped",
			says: []string{"skipped but not listed: example/c TestThree/row: c_test.go:3: no engine"},
		},
		"a listed skip passes": {
			files: map[string]string{"c/c_test.go": skipping}, list: "example/c TestThree/row the reason",
			args: []string{"-whole", "--", "./..."},
			last: "1 passed, 0 failed, 1 skipped",
		},
		"a listed prefix passes": {
			files: map[string]string{"c/c_test.go": skipping}, list: "example/c TestThree/* the reason",
			args: []string{"-whole", "--", "./..."},
			last: "1 passed, 0 failed, 1 skipped",
		},
		"a listed parent does not cover its subtests": {
			files: map[string]string{"c/c_test.go": skipping}, list: "example/c TestThree the reason",
			args: []string{"--", "./..."}, code: 1,
			last: "1 passed, 0 failed, 1 skipped",
		},
		"a stale entry fails the whole tree": {
			files: map[string]string{"a/a_test.go": passing}, list: "\nexample/a TestGone once",
			args: []string{"-whole", "--", "./..."}, code: 1,
			last: "2 passed, 0 failed, 0 skipped",
			says: []string{"list.txt:2: example/a TestGone did not occur: remove the line"},
		},
		"a stale entry does not fail a part of the tree": {
			files: map[string]string{"a/a_test.go": passing}, list: "example/a TestGone once",
			args: []string{"--", "./..."},
			last: "2 passed, 0 failed, 0 skipped",
		},
		"a package without tests fails the whole tree": {
			files: map[string]string{"a/a_test.go": passing, "e/e.go": "package e\n"},
			args:  []string{"-whole", "--", "./..."}, code: 1,
			last: "2 passed, 0 failed, 0 skipped",
			says: []string{"no test of this package ran: example/e"},
		},
		"a package without tests may be listed": {
			files: map[string]string{"a/a_test.go": passing, "e/e.go": "package e\n"}, list: "example/e - runs elsewhere",
			args: []string{"-whole", "--", "./..."},
			last: "2 passed, 0 failed, 0 skipped",
		},
		"no test at all fails": {
			files: map[string]string{"a/a_test.go": passing},
			args:  []string{"--", "-run", "^TestNone$", "./..."}, code: 1,
			last: "0 passed, 0 failed, 0 skipped",
			says: []string{"no test ran"},
		},
		"a crash counts the test that it ended, and is printed": {
			files: map[string]string{"d/d_test.go": crashing},
			args:  []string{"--", "./..."}, code: 1,
			last: "0 passed, 1 failed, 0 skipped",
			says: []string{"panic: boom"},
		},
		"each package that does not compile counts as a failure": {
			files: map[string]string{"a/a_test.go": passing, "f/f_test.go": "package f\nvar x int = \"\"\n", "g/g.go": "package g\nvar x int = \"\"\n"},
			args:  []string{"--", "./..."}, code: 1,
			last: "2 passed, 2 failed, 0 skipped",
			says: []string{"cannot use", "FAIL\texample/f [build failed]"},
		},
		"a process that ends by itself with no failing test counts as a failure": {
			files: map[string]string{"g/g_test.go": "package g\nimport (\"os\"; \"testing\")\nfunc TestMain(m *testing.M) { m.Run(); os.Exit(3) }\nfunc TestFine(t *testing.T) {}\n"},
			args:  []string{"--", "./..."}, code: 1,
			last: "1 passed, 1 failed, 0 skipped",
		},
		"arguments that go test refuses count as a failure": {
			files: map[string]string{"a/a_test.go": passing},
			args:  []string{"--", "-nonsense"}, code: 1,
			last: "0 passed, 1 failed, 0 skipped",
		},
		"several runs are one account": {
			files: map[string]string{"a/a_test.go": passing, "a/m_test.go": measured, "c/c_test.go": skipping}, list: "example/c TestThree/row why",
			args: []string{"-whole", "--", "-race", "./...", "--", "-run", "^TestMeasured", "./..."},
			last: "4 passed, 0 failed, 1 skipped",
		},
		"a run may be in another folder": {
			files: map[string]string{"a/a_test.go": passing},
			args:  []string{"--", "-C", "a", "-count=1", "."},
			last:  "2 passed, 0 failed, 0 skipped",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tree(t, test.files)
			args := test.args
			if test.list != "" {
				if err := os.WriteFile("list.txt", []byte(test.list), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append([]string{"-skips", "list.txt"}, args...)
			}
			code, out, last := outcome(t, args...)
			if code != test.code || last != test.last {
				t.Errorf("exit %d and %q, want %d and %q", code, last, test.code, test.last)
			}
			for _, part := range test.says {
				if !strings.Contains(out, part) {
					t.Errorf("output lacks %q", part)
				}
			}
			for _, part := range test.hides {
				if strings.Contains(out, part) {
					t.Errorf("output shows %q", part)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

func TestCalledWronglyIsExitTwo(t *testing.T) {
	for _, args := range [][]string{{}, {"--"}, {"-nonsense"}, {"-skips", "/does/not/exist", "--", "./..."}} {
		code, out, _ := outcome(t, args...)
		if code != 2 || out == "" {
			t.Errorf("%q: exit %d with %q, want 2 and a sentence", args, code, out)
		}
	}
}

func TestAPackageCutOffBeforeItsResultFails(t *testing.T) {
	var out bytes.Buffer
	record := newRecord(&out)
	err := record.read(strings.NewReader(`{"Action":"run","Package":"p","Test":"TestX"}
{"Action":"output","Package":"p","Test":"TestX","Output":"half a wo"}
not an event
`))
	if err != nil || record.failed != 1 {
		t.Errorf("error %v and %d failed, want none and 1", err, record.failed)
	}
	for _, part := range []string{"half a wo", "not an event\n", "FAIL\tp"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("output lacks %q:\n%s", part, out.String())
		}
	}
}
