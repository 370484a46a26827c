package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"keystile/cache/redistest"
)

// composition is what these tests read of deploy/compose.yaml.
type composition struct {
	Services map[string]struct {
		Command     []string
		Environment map[string]string
		Secrets     []string
		Volumes     []string
	}
	Secrets map[string]struct{ File string }
}

func readComposition(t *testing.T) (c composition) {
	t.Helper()
	text := readFile(t, filepath.Join(moduleRoot(t), "deploy", "compose.yaml"))
	if err := yaml.Load([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// makeSecrets runs the commands of deploy/README.md in a folder with a copy of deploy, and
// returns the folder.
func makeSecrets(t *testing.T) string {
	t.Helper()
	deploy, folder := filepath.Join(moduleRoot(t), "deploy"), t.TempDir()
	writeFile(t, filepath.Join(folder, "redis.acl"), readFile(t, filepath.Join(deploy, "redis.acl")), 0o644)
	blocks := codeBlocks(readFile(t, filepath.Join(deploy, "README.md")), "sh")
	if len(blocks) != 1 {
		t.Fatalf("deploy/README.md has %d blocks of commands", len(blocks))
	}
	run := exec.CommandContext(t.Context(), "sh", "-euc", blocks[0])
	run.Dir = folder
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return folder
}

// TestCompositionRunsAsShipped starts what deploy/compose.yaml describes, without
// containers: its redis-server with its settings and users, and its processes with their
// variables and the secrets made as deploy/README.md says.
func TestCompositionRunsAsShipped(t *testing.T) {
	c, folder := readComposition(t), makeSecrets(t)
	server := redistest.Start(t, redistest.Options{
		ACL: readFile(t, filepath.Join(folder, "secrets", "redis.acl")), Lines: settings(t, c.Services["redis"].Command),
	})
	if kept := server.Must("CONFIG", "GET", "appendfsync"); kept != "appendfsync\nalways" {
		t.Errorf("CONFIG GET says %q", kept)
	}
	upstream := newSample(t).URL
	place := strings.NewReplacer(
		"/run/secrets/", filepath.Join(folder, "secrets")+"/", "redis:6379", server.Addr(), "0.0.0.0:8081", "127.0.0.1:0",
	)
	processes := map[string]*process{}
	for _, name := range []string{"keystile-1", "keystile-2"} {
		var env []string
		for variable, value := range c.Services[name].Environment {
			switch {
			case variable == "KEYSTILE_PROXY_UPSTREAM_URL":
			case variable == "KEYSTILE_ADMIN_TOKEN":
				env = append(env, variable+"="+aToken)
			default:
				env = append(env, variable+"="+place.Replace(value))
			}
		}
		processes[name] = startServe(t, upstream, command{env: append(env, unhurried)})
	}
	for _, p := range processes {
		awaitReady(t, p)
		awaitServing(t, p, "keystile-1", "keystile-2")
		if said := complaints(p); said != "" {
			t.Errorf("it starts with complaints:\n%s", said)
		}
	}
	made := processes["keystile-1"].client(t).create(t, "")
	got, err := ask(http.DefaultClient, "GET", processes["keystile-2"].proxy+"/echo", "", bearer(made.Secret))
	if err != nil || got.status != http.StatusOK || made.Effective != "everywhere" {
		t.Errorf("%+v through the other: %v, %d %s", made, err, got.status, got.body)
	}
}

// TestContainersMayListenWhereTheyAreToldTo holds the addresses that are shipped against
// the rule about plain HTTP: the test above has others.
func TestContainersMayListenWhereTheyAreToldTo(t *testing.T) {
	told := map[string][]string{}
	for name, service := range readComposition(t).Services {
		for variable, value := range service.Environment {
			if strings.HasPrefix(variable, "KEYSTILE_ADMIN_") {
				told[name] = append(told[name], variable+"="+value)
			}
		}
	}
	dockerfile := readFile(t, filepath.Join(moduleRoot(t), "Dockerfile"))
	for _, found := range regexp.MustCompile(`-e (KEYSTILE_ADMIN_\w+=\S+)`).FindAllStringSubmatch(dockerfile, -1) {
		told["Dockerfile"] = append(told["Dockerfile"], found[1])
	}
	for name, env := range told {
		c, _, err := parseConfig("", nil, env)
		if err != nil || !c.Admin.readable(c.Admin.Listen) {
			t.Errorf("%s: %v, %v", name, err, c.Admin)
		}
	}
	if len(told) != 3 {
		t.Errorf("those who are told are %v", told)
	}
}

// settings are the lines of redis.conf that a command line stands for.
func settings(t *testing.T, command []string) (lines []string) {
	t.Helper()
	if len(command)%2 != 1 || command[0] != "redis-server" {
		t.Fatalf("the command of Redis is %q", command)
	}
	for pair := range slices.Chunk(command[1:], 2) {
		if name := strings.TrimPrefix(pair[0], "--"); name != "aclfile" { // the test's own
			lines = append(lines, name+" "+pair[1])
		}
	}
	return lines
}

func TestConfigurationsOfTheReadmeAreAccepted(t *testing.T) {
	blocks := codeBlocks(readReadme(t), "yaml")
	for _, block := range blocks {
		if _, warnings, err := parseConfig("README.md", []byte(block), nil); err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %q", block, err, warnings)
		}
	}
	if len(blocks) == 0 {
		t.Error("there is none")
	}
}

func TestCompositionGivesEachProcessItsOwnMemory(t *testing.T) {
	c := readComposition(t)
	volumes := map[string]string{}
	for name, service := range c.Services {
		for _, volume := range service.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if other, taken := volumes[from]; taken {
				t.Errorf("%s and %s share the volume %s", name, other, from)
			}
			volumes[from] = name
		}
		for _, secret := range service.Secrets {
			if c.Secrets[secret].File != "./secrets/"+secret {
				t.Errorf("%s has the secret %s, which is %q", name, secret, c.Secrets[secret].File)
			}
		}
	}
	if len(volumes) != 3 {
		t.Errorf("the volumes are %v", volumes)
	}
}

func TestSecretsOfDeploymentAreNotReadableByOthers(t *testing.T) {
	folder := makeSecrets(t)
	for _, name := range []string{"redis-password", "peppers", "redis.acl"} {
		info, err := os.Stat(filepath.Join(folder, "secrets", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	// Neither may end in a commit or in an image.
	for _, list := range []string{".gitignore", ".dockerignore"} {
		if !strings.Contains(readFile(t, filepath.Join(moduleRoot(t), list)), "deploy/secrets") {
			t.Errorf("%s does not name deploy/secrets", list)
		}
	}
}
