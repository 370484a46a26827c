package keys_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"keystile/keys"
)

// canaryText is the secret that must show nowhere. It is fixed, so that the
// subprocess which panics with it needs no words about it.
var canaryText = seal("CanaryCanaryCanary0000", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg")

// holders are the places in which code keeps a secret.
type (
	exported   struct{ Secret keys.Secret }
	unexported struct{ secret keys.Secret }
	embedded   struct{ keys.Secret }
	nested     struct {
		Name  string
		inner *unexported
		list  []keys.Secret
		byID  map[keys.ID]keys.Secret
		any   any
	}
)

// withCanary is the canary in every holder, each under a name for messages.
func withCanary(t testing.TB) map[string]any {
	s := mustParse(t, canaryText)
	id := s.ID()
	return map[string]any{
		"value": s, "pointer": &s, "pointer to pointer": ptr(&s),
		"exported": exported{s}, "pointer to exported": &exported{s},
		"unexported": unexported{s}, "pointer to unexported": &unexported{s},
		"embedded": embedded{s}, "pointer to embedded": &embedded{s},
		"slice": []keys.Secret{s}, "array": [1]keys.Secret{s}, "slice of pointers": []*keys.Secret{&s},
		"slice of any": []any{s, &s, unexported{s}},
		"map":          map[keys.ID]keys.Secret{id: s}, "map by secret": map[keys.Secret]int{s: 1},
		"map of any":          map[string]any{"secret": s, "holder": unexported{s}},
		"slice of unexported": []unexported{{s}}, "map of unexported": map[string]unexported{"a": {s}},
		"nested":  &nested{"n", &unexported{s}, []keys.Secret{s}, map[keys.ID]keys.Secret{id: s}, embedded{s}},
		"channel": make(chan keys.Secret), "function": s.Reveal, "error": &holdingError{s},
	}
}

func ptr[T any](v T) *T { return &v }

// holdingError is an error that keeps the secret it is about.
type holdingError struct{ secret keys.Secret }

func (e *holdingError) Error() string { return fmt.Sprintf("refusing %v", e.secret) }

// canaryForms are the ways in which bytes get into text: as they are, in hexadecimal,
// base64 (at each offset), and as lists of numbers. The id is public; the canary is
// the random part, and a piece of it is enough.
func canaryForms() map[string]string {
	random := []byte(canaryText[27:35])
	forms := map[string]string{
		"text":                 string(random),
		"hexadecimal":          hex.EncodeToString(random),
		"spaced hexadecimal":   fmt.Sprintf("% x", random),
		"0x bytes":             strings.Trim(fmt.Sprintf("%#v", random), "[]byte{}"),
		"decimal":              strings.Trim(fmt.Sprint(random), "[]"),
		"decimal, commas":      strings.ReplaceAll(strings.Trim(fmt.Sprint(random), "[]"), " ", ","),
		"decimal, wide commas": strings.ReplaceAll(strings.Trim(fmt.Sprint(random), "[]"), " ", ", "),
		"octal":                strings.Trim(fmt.Sprintf("%o", random), "[]"),
		"binary":               strings.Trim(fmt.Sprintf("%b", random), "[]"),
		"characters":           strings.Trim(fmt.Sprintf("%q", []rune(string(random))), "[]"),
		"0o bytes":             strings.Trim(fmt.Sprintf("%O", random), "[]"),
		"spaced characters":    strings.Join(strings.Split(string(random), ""), " "),
		"unicode":              strings.Trim(fmt.Sprintf("%U", random), "[]"),
	}
	for offset := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(canaryText)[24+offset:])
		forms[fmt.Sprintf("base64, offset %d", offset)] = encoded[8:20]
	}
	return forms
}

var (
	badVerb = regexp.MustCompile(`%!.\([a-z0-9]+=([^()]*)\)`)
	padding = regexp.MustCompile(`\++| +`)
)

// normalize undoes what flags and ill-suited verbs of fmt put around each byte.
func normalize(output string) string {
	output = padding.ReplaceAllString(badVerb.ReplaceAllString(output, "$1"), " ")
	return strings.ToLower(strings.ReplaceAll(output, "  ", " "))
}

// wantNoCanary fails when output has the canary in one of its forms, whatever the case.
func wantNoCanary(t *testing.T, what, output string) {
	t.Helper()
	low := strings.ToLower(output) + "\n" + normalize(output)
	for form, text := range canaryForms() {
		if strings.Contains(low, strings.ToLower(text)) {
			t.Errorf("%s shows the secret as %s: %s", what, form, output)
		}
	}
}

func TestCanaryFormsAreFound(t *testing.T) {
	text := []byte(canaryText)
	for form, output := range map[string]string{
		"text": canaryText, "hexadecimal": fmt.Sprintf("%x", text), "spaced hexadecimal": fmt.Sprintf("% X", text),
		"0x bytes": fmt.Sprintf("%#v", text), "decimal": fmt.Sprint(text), "octal": fmt.Sprintf("%o", text),
		"binary": fmt.Sprintf("%b", text), "characters": fmt.Sprintf("%q", []rune(canaryText)), "unicode": fmt.Sprintf("%U", text),
		"0o bytes": fmt.Sprintf("%+10O", text), "spaced characters": fmt.Sprintf("%c", text),
		"decimal, commas": strings.ReplaceAll(fmt.Sprint(text), " ", ","), "decimal, wide commas": strings.ReplaceAll(fmt.Sprint(text), " ", ", "),
		"base64, offset 0": base64.StdEncoding.EncodeToString(text),
		"base64, offset 1": base64.StdEncoding.EncodeToString(append([]byte("xx"), text...)),
		"base64, offset 2": base64.StdEncoding.EncodeToString(append([]byte("x"), text...)),
	} {
		if want := strings.ToLower(canaryForms()[form]); want == "" || !strings.Contains(strings.ToLower(output)+normalize(output), want) {
			t.Errorf("the form %q would not be found", form)
		}
	}
	for _, format := range []string{"%t", "%+8d", "%-8d", "% d", "%e"} {
		if !strings.Contains(normalize(fmt.Sprintf(format, [8]byte(text[27:35]))), canaryForms()["decimal"]) {
			t.Errorf("the decimal form would not be found behind %s", format)
		}
	}
}

func TestFmtNeverShowsASecret(t *testing.T) {
	const verbs = "vTtbcdoOqxXUeEfFgGsp wzk%"
	flags := []string{"", "+", "-", "#", "0", " ", "+#", "# ", "+-# 0", "200", ".3", "12.90", "-#200.100", "[1]", "*"}
	for name, holder := range withCanary(t) {
		for _, verb := range verbs {
			for _, flag := range flags {
				format := "%" + flag + string(verb)
				wantNoCanary(t, format+" of "+name, fmt.Sprintf(format, holder))
				wantNoCanary(t, format+" of 90 and "+name, fmt.Sprintf(format, 90, holder))
				wantNoCanary(t, format+" in an error about "+name, fmt.Errorf("doing: "+format, holder).Error())
			}
		}
		wantNoCanary(t, "Sprint of "+name, fmt.Sprint(holder))
		wantNoCanary(t, "Sprintln of "+name, fmt.Sprintln(holder, holder))
	}
}

// What has methods must say that something was left out, not merely hide it.
func TestFmtWritesRedactedForEveryVerbAndFlag(t *testing.T) {
	secret := mustParse(t, canaryText)
	for _, holder := range []any{secret, &secret} {
		for _, verb := range "vtbcdoOqxXUeEfFgGsz" {
			for _, flag := range []string{"", "+", "-", "#", "0", " ", "+-# 0", "200", ".3"} {
				if got := fmt.Sprintf("%"+flag+string(verb), holder); got != "[redacted]" {
					t.Errorf("%%%s%c of %T is %q", flag, verb, holder, got)
				}
			}
		}
	}
	if got := secret.String() + secret.GoString() + fmt.Sprintf("%+v", exported{secret}); got != "[redacted][redacted]{Secret:[redacted]}" {
		t.Errorf("String, GoString and a field give %q", got)
	}
}

func TestEncodersNeverShowASecret(t *testing.T) {
	for name, holder := range withCanary(t) {
		text, err := json.Marshal(holder)
		wantNoCanary(t, "JSON of "+name, fmt.Sprint(string(text), err))
		text, err = xml.Marshal(holder)
		wantNoCanary(t, "XML of "+name, fmt.Sprint(string(text), err))
		var stream bytes.Buffer
		err = gob.NewEncoder(&stream).Encode(holder)
		wantNoCanary(t, "gob of "+name, fmt.Sprint(stream.String(), err))
		var page strings.Builder
		err = template.Must(template.New("").Parse(`{{.}} {{printf "%+v" .}} {{js .}}`)).Execute(&page, holder)
		wantNoCanary(t, "template of "+name, fmt.Sprint(page.String(), err))
	}
	text, err := json.Marshal(map[string]any{"secret": mustParse(t, canaryText), "in": exported{mustParse(t, canaryText)}})
	if want := `{"in":{"Secret":"[redacted]"},"secret":"[redacted]"}`; err != nil || string(text) != want {
		t.Errorf("JSON is %s (%v), want %s", text, err, want)
	}
}

func TestLogsNeverShowASecret(t *testing.T) {
	var out bytes.Buffer
	options := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	for format, handler := range map[string]slog.Handler{
		"text": slog.NewTextHandler(&out, options), "JSON": slog.NewJSONHandler(&out, options),
	} {
		logger := slog.New(handler)
		for name, holder := range withCanary(t) {
			out.Reset()
			logger.Debug("message", "secret", holder, slog.Group("group", slog.Any("secret", holder)))
			logger.With("secret", holder).WithGroup("group").Error("message", "error", fmt.Errorf("wrapped: %v", holder))
			wantNoCanary(t, "slog in "+format+" of "+name, out.String())
			out.Reset()
			log.New(&out, "", log.LstdFlags).Println(holder)
			wantNoCanary(t, "log of "+name, out.String())
		}
		out.Reset()
		logger.Info("message", "secret", mustParse(t, canaryText))
		if !strings.Contains(out.String(), "[redacted]") {
			t.Errorf("slog in %s does not say that something was left out: %s", format, out.String())
		}
	}
}

func TestErrorsNeverShowASecret(t *testing.T) {
	for name, holder := range withCanary(t) {
		err := fmt.Errorf("outer: %w", fmt.Errorf("inner: %v", holder))
		joined := errors.Join(err, fmt.Errorf("%+v %#v", holder, holder))
		wantNoCanary(t, "an error about "+name, fmt.Sprintf("%v %+v %#v %q", joined, joined, joined, err))
	}
	_, err := keys.ParseSecret(canaryText[:75] + "!")
	wantNoCanary(t, "the error of ParseSecret", fmt.Sprintf("%v %+v %#v", err, err, err))
	_, err = keys.ParseKey(canaryText)
	wantNoCanary(t, "the error of ParseKey", fmt.Sprintf("%v %+v %#v", err, err, err))
}

const panicHolder = "KEYSTILE_TEST_PANIC_HOLDER"

// The test runs itself once for each holder, as only a process that dies of a panic
// shows what the runtime prints, the arguments on its stack included.
func TestPanicsNeverShowASecret(t *testing.T) {
	if name := os.Getenv(panicHolder); name != "" {
		panicWith(mustParse(t, canaryText), withCanary(t)[name])
	}
	for name, holder := range withCanary(t) {
		func() {
			defer func() {
				wantNoCanary(t, "what recover returns for "+name, fmt.Sprintf("%v %+v", recover(), holder))
			}()
			panic(holder)
		}()
		command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), panicHolder+"="+name, "GOTRACEBACK=all")
		output, err := command.CombinedOutput()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(string(output), "panicWith") {
			t.Fatalf("%s: the process did not panic: %v\n%s", name, err, output)
		}
		wantNoCanary(t, "a panic with "+name, string(output))
	}
}

//go:noinline
func panicWith(_ keys.Secret, holder any) { panic(holder) }

func TestOnlyRevealReturnsTheText(t *testing.T) {
	secret := mustParse(t, canaryText)
	if secret.Reveal() != canaryText {
		t.Error("Reveal does not return the text")
	}
	text, err := secret.MarshalText()
	if string(text) != "[redacted]" || err != nil {
		t.Errorf("MarshalText returned %q, %v", text, err)
	}
	for name, zero := range map[string]string{
		"Reveal": keys.Secret{}.Reveal(), "ID": string(bytes.Trim([]byte(keys.Secret{}.ID().String())[4:], "\x00")),
	} {
		if zero != "" {
			t.Errorf("%s of the zero Secret is %q", name, zero)
		}
	}
	if got := fmt.Sprint(keys.Secret{}); got != "[redacted]" {
		t.Errorf("the zero Secret prints as %q", got)
	}
}
