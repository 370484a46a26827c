package tools

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkout makes a git checkout that holds the script, the list of Debian packages and the files given, and returns its
// folder.
func checkout(t *testing.T, script string, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{script, "debian-packages.txt", "debian-packages-torture.txt"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "tools", name), string(text))
	}
	for name, text := range files {
		write(t, filepath.Join(folder, name), text)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}} {
		git := exec.Command("git", args...)
		git.Dir = folder
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return folder
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// machine makes a folder of programs that is to be the whole PATH: links to the real ones named, and shell scripts of
// the lines given.
func machine(t *testing.T, real []string, fake map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range real {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, line := range fake {
		write(t, filepath.Join(folder, name), "#!/bin/sh\n"+line+"\n")
	}
	return folder
}

// outcome runs a script with bash and returns whether it succeeded, and all it printed.
func outcome(t *testing.T, env []string, script ...string) (bool, string) {
	t.Helper()
	command := exec.Command("bash", script...)
	command.Env = append(os.Environ(), env...)
	out, err := command.CombinedOutput()
	return err == nil, string(out)
}

func TestNeeds(t *testing.T) {
	const lock = "clients/package-lock.json"
	present := map[string]string{
		"id": "echo 0", "gcc": "", "curl": "", "espeak-ng": "", "node": "echo v20.1.0", "npm": `echo "npm in $PWD: $*"`,
		"apt-get": `echo "apt-get $*"`,
	}
	tests := map[string]struct {
		tests  string            // that are to be run; "": make test
		fake   map[string]string // beside and instead of what is present; "-" takes a program away
		files  map[string]string
		passes bool
		says   []string
		hides  string
	}{
		"nothing is installed where nothing is missing": {passes: true, hides: "apt-get"},
		"root installs just what is missing": {
			fake: map[string]string{"espeak-ng": "-", "curl": "-"}, passes: true,
			says: []string{"apt-get update -qq", "apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends curl espeak-ng\n"},
		},
		"somebody else is told what to type": {
			fake: map[string]string{"espeak-ng": "-", "id": "echo 1000"},
			says: []string{"missing: espeak-ng.", "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends espeak-ng'"}, hides: "-qq",
		},
		"a failing installation names what is missing and what to type": {
			fake: map[string]string{"espeak-ng": "-", "apt-get": "exit 100"},
			says: []string{"missing: espeak-ng, and installing them failed", "\n  apt-get update && apt-get install"},
		},
		"a system without apt-get is told what is missing": {
			fake: map[string]string{"espeak-ng": "-", "apt-get": "-"},
			says: []string{"missing: espeak-ng", "no apt-get here"},
		},
		"torture needs what the tests need and a browser": {
			tests: "torture", fake: map[string]string{"curl": "-", "id": "echo 1000"},
			says: []string{"make torture: missing: curl chromium."},
		},
		"an old Node is named": {
			fake: map[string]string{"node": "echo v18.20.4"},
			says: []string{"Node v18.20.4 is too old: 20 or newer"},
		},
		"npm packages are installed by lock file": {
			files: map[string]string{lock: "{}"}, passes: true,
			says: []string{"/clients: ci --ignore-scripts"},
		},
		"npm packages of another package are left alone": {
			files: map[string]string{".gitignore": "node_modules/\n", "node_modules/x/package-lock.json": "{}"}, passes: true, hides: "npm in",
		},
		"a failing npm is told with what to type": {
			files: map[string]string{lock: "{}"}, fake: map[string]string{"npm": "exit 1"},
			says: []string{"npm packages of clients/package-lock.json are missing", "(cd clients && npm ci --ignore-scripts)"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			folder := checkout(t, "install-needs.sh", test.files)
			fake := map[string]string{}
			for _, programs := range []map[string]string{present, test.fake} {
				for program, line := range programs {
					fake[program] = line
					if line == "-" {
						delete(fake, program)
					}
				}
			}
			path := machine(t, []string{"bash", "git", "dirname"}, fake)
			passed, out := outcome(t, []string{"PATH=" + path}, filepath.Join(folder, "tools/install-needs.sh"), test.tests)
			if passed != test.passes {
				t.Errorf("passed: %v, want %v", passed, test.passes)
			}
			for _, part := range test.says {
				if !strings.Contains(out, part) {
					t.Errorf("output lacks %q", part)
				}
			}
			if test.hides != "" && strings.Contains(out, test.hides) {
				t.Errorf("output shows %q", test.hides)
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

func TestNpmPackagesAreInstalledAgainOnlyWhenTheLockFileIsNewer(t *testing.T) {
	folder := checkout(t, "install-needs.sh", map[string]string{"clients/package-lock.json": "{}"})
	path := machine(t, []string{"bash", "git", "dirname", "mkdir", "touch"}, map[string]string{
		"id": "echo 0", "gcc": "", "curl": "", "espeak-ng": "", "node": "echo v22.0.0",
		"npm": `echo installing; mkdir -p node_modules; touch node_modules/.package-lock.json`,
	})
	script := filepath.Join(folder, "tools/install-needs.sh")
	for i, installs := range []bool{true, false, true} {
		passed, out := outcome(t, []string{"PATH=" + path}, script)
		if !passed || strings.Contains(out, "installing") != installs {
			t.Errorf("run %d: passed %v, want true; installs: want %v\n%s", i+1, passed, installs, out)
		}
		if i == 1 {
			marker, err := os.Stat(filepath.Join(folder, "clients/node_modules/.package-lock.json"))
			if err != nil {
				t.Fatal(err)
			}
			later := marker.ModTime().Add(1e9)
			if err := os.Chtimes(filepath.Join(folder, "clients/package-lock.json"), later, later); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFuzz(t *testing.T) {
	const fuzzing = "package a\nimport \"testing\"\nfunc FuzzA(f *testing.F) { f.Fuzz(func(t *testing.T, b []byte) {}) }\n"
	const failing = "package b\nimport \"testing\"\nfunc FuzzB(f *testing.F) { f.Add(1); f.Fuzz(func(t *testing.T, n int) { t.Error(\"never right\") }) }\n"
	const plain = "package c\nimport \"testing\"\nfunc TestC(t *testing.T) {}\n"
	tests := map[string]struct {
		files  map[string]string
		passes bool
		says   []string
	}{
		"every target runs": {
			files:  map[string]string{"a/a_test.go": fuzzing, "a2/a_test.go": strings.ReplaceAll(fuzzing, "FuzzA", "FuzzA2"), "c/c_test.go": plain},
			passes: true, says: []string{"example/a FuzzA for 1x", "example/a2 FuzzA2 for 1x", "2 targets ran"},
		},
		"a failure is named and the others run": {
			files: map[string]string{"a/a_test.go": failing, "b/b_test.go": fuzzing},
			says:  []string{"failed: example/a FuzzB", "example/b FuzzA for 1x"},
		},
		"a tree without targets fails": {files: map[string]string{"c/c_test.go": plain}, says: []string{"no fuzz target"}},
		"a tree that does not compile fails": {
			files: map[string]string{"a/a_test.go": fuzzing, "c/c_test.go": "package c\nvar x int = \"\"\n"}, says: []string{"could not be listed"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.files["go.mod"] = "module example\n\ngo 1.26.0\n"
			folder := checkout(t, "fuzz.sh", test.files)
			passed, out := outcome(t, nil, filepath.Join(folder, "tools/fuzz.sh"), "1x")
			if passed != test.passes {
				t.Errorf("passed: %v, want %v", passed, test.passes)
			}
			for _, part := range test.says {
				if !strings.Contains(out, part) {
					t.Errorf("output lacks %q", part)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}
