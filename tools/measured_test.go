package tools

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// The second run of make test, without -race, asks for the names that begin with TestMeasured. So a test of another name
// in a file that -race leaves out would never run, and one of that name elsewhere would measure the race detector.
func TestFilesThatRaceLeavesOutHoldExactlyTheMeasuredTests(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != ".." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		for _, complaint := range misplaced(t, path, nil) {
			t.Error(complaint)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("found no test file at all")
	}
}

// misplaced returns a sentence for each test that the two runs would lose or misplace.
func misplaced(t *testing.T, path string, source any) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	excluded := false
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if group.Pos() > file.Package || !constraint.IsGoBuild(comment.Text) {
				continue
			}
			expression, err := constraint.Parse(comment.Text)
			if err != nil {
				t.Fatal(err)
			}
			excluded = !expression.Eval(func(tag string) bool { return tag == "race" || tag == "linux" }) &&
				expression.Eval(func(tag string) bool { return tag == "linux" })
		}
	}
	var complaints []string
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Recv != nil || function.Name.Name == "TestMain" || !strings.HasPrefix(function.Name.Name, "Test") {
			continue
		}
		if measured := strings.HasPrefix(function.Name.Name, "TestMeasured"); measured && !excluded {
			complaints = append(complaints, path+": "+function.Name.Name+" measures, so its file needs //go:build !race")
		} else if excluded && !measured {
			complaints = append(complaints, path+": "+function.Name.Name+" never runs: its file has !race, so its name must begin with TestMeasured")
		}
	}
	return complaints
}

func TestMisplacedTestsAreFound(t *testing.T) {
	const body = "package a\nimport \"testing\"\n"
	for source, want := range map[string]int{
		body + "func TestPlain(t *testing.T) {}":                                           0,
		body + "func TestMeasuredBytes(t *testing.T) {}":                                   1,
		"//go:build !race\n\n" + body + "func TestMeasuredBytes(t *testing.T) {}":          0,
		"//go:build linux && !race\n\n" + body + "func TestMeasuredBytes(t *testing.T) {}": 0,
		"//go:build !race\n\n" + body + "func TestPlain(t *testing.T) {}":                  1,
		"//go:build race\n\n" + body + "func TestPlain(t *testing.T) {}":                   0,
		"//go:build linux\n\n" + body + "func TestPlain(t *testing.T) {}":                  0,
	} {
		if got := misplaced(t, "a_test.go", source); len(got) != want {
			t.Errorf("%d complaints, want %d, about:\n%s\n%v", len(got), want, source, got)
		}
	}
}
