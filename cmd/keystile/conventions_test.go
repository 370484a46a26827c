package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goPackage is what `go list -json` says of a package of this module.
type goPackage struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
}

// arrow says what a package may import beside the standard library, and why no more.
type arrow struct {
	imports []string // packages of this module, and modules of others
	reason  string
}

// arrows is the table of the design: whoever needs another arrow has to change it
// here, and say why.
var arrows = map[string]arrow{
	"keystile/cmd/keystile": {
		[]string{
			"keystile/admin", "keystile/cache", "keystile/keys", "keystile/proxy", "keystile/cmd/keystile/sample",
			"github.com/spf13/cobra", "github.com/spf13/pflag", "go.yaml.in/yaml/v4", "golang.org/x/sync", "golang.org/x/term",
			"github.com/prometheus/client_golang",
		},
		"cmd wires everything and knows the configuration; what it needs beyond that belongs in the package that does the work",
	},
	"keystile/cmd/keystile/sample": {
		[]string{"golang.org/x/image"},
		"the sample generator plays somebody else's service: it may know nothing of Keystile",
	},
	"keystile/proxy": {
		[]string{"keystile/keys", "golang.org/x/time", "github.com/prometheus/client_golang"},
		"the hot path sees records through proxy.Records only: no store, no I/O, no configuration",
	},
	"keystile/admin": {
		[]string{"keystile/keys", "github.com/go-chi/chi/v5", "github.com/danielgtaylor/huma/v2", "github.com/alexedwards/scs/v2", "golang.org/x/time", "github.com/prometheus/client_golang"},
		"admin sees records through keys.Store only, whichever store it is",
	},
	"keystile/admin/apitest": {
		nil,
		"it checks the API against its description, so it may share no code with what makes the two",
	},
	"keystile/cache": {
		[]string{"keystile/keys", "go.etcd.io/bbolt", "github.com/redis/go-redis/v9"},
		"a store knows what a record is and how it is kept, and nothing of requests",
	},
	"keystile/cache/redistest": {
		nil,
		"servers and faults for tests know nothing of what is tested with them",
	},
	"keystile/keys": {
		[]string{"golang.org/x/text"},
		"keys says what a key is, without I/O: everything may import it, so it imports nothing",
	},
	"keystile/keys/keystest": {
		[]string{"keystile/keys", "pgregory.net/rapid", "github.com/google/go-cmp"},
		"the contract must hold for every store, so it may know none",
	},
}

// TestImportArrowsHold holds the packages against the table of the design.
func TestImportArrowsHold(t *testing.T) {
	for _, mistake := range arrowMistakes(listPackages(t)) {
		t.Error(mistake)
	}
}

// TestAnAddedArrowIsReported shows that the test above can fail.
func TestAnAddedArrowIsReported(t *testing.T) {
	pkgs := listPackages(t)
	for i := range pkgs {
		if pkgs[i].ImportPath == "keystile/proxy" {
			pkgs[i].Imports = append(pkgs[i].Imports, "keystile/cache")
		}
	}
	pkgs = append(pkgs, goPackage{ImportPath: "keystile/util"})
	mistakes := strings.Join(arrowMistakes(pkgs), "\n")
	for _, want := range []string{"keystile/proxy imports keystile/cache", "keystile/util is not in the table"} {
		if !strings.Contains(mistakes, want) {
			t.Errorf("not reported: %s\n%s", want, mistakes)
		}
	}
}

// arrowMistakes returns every import that the table does not allow.
func arrowMistakes(pkgs []goPackage) (mistakes []string) {
	for _, pkg := range pkgs {
		allowed, known := arrows[pkg.ImportPath]
		if !known {
			mistakes = append(mistakes, fmt.Sprintf("%s is not in the table of arrows: add it with its reason", pkg.ImportPath))
			continue
		}
		for _, imported := range pkg.Imports {
			standard := !strings.Contains(strings.Split(imported, "/")[0], ".") && !strings.HasPrefix(imported, "keystile/")
			if !standard && !slices.ContainsFunc(allowed.imports, func(a string) bool { return covers(a, imported) }) {
				mistakes = append(mistakes, fmt.Sprintf("%s imports %s: %s", pkg.ImportPath, imported, allowed.reason))
			}
		}
	}
	return mistakes
}

// covers reports whether an entry of the table allows an import: a package of ours
// by its own path, a module of others with all its packages.
func covers(allowed, imported string) bool {
	if strings.HasPrefix(allowed, "keystile/") {
		return imported == allowed
	}
	return imported == allowed || strings.HasPrefix(imported, allowed+"/")
}

// TestEveryPackageHasADocThatSaysWhatItIsFor holds package docs against
// our style: what it is for, how it works, what it does not promise.
func TestEveryPackageHasADocThatSaysWhatItIsFor(t *testing.T) {
	for _, pkg := range listPackages(t) {
		if len(pkg.Doc) < 40 {
			t.Errorf("%s has no package documentation worth the name: %q", pkg.ImportPath, pkg.Doc)
		}
	}
}

// moduleRoot is the folder of go.mod, seen from this package's tests.
func moduleRoot(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// listPackages lists the packages of this module, without its tests.
func listPackages(t *testing.T) (pkgs []goPackage) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Doc,Imports", "./...")
	list.Dir = moduleRoot(t)
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg goPackage
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, pkg)
	}
}
