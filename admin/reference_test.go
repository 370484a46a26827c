package admin

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"html"
	"html/template"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"keystile/admin/apitest"
)

// TestCommittedReferenceIsTheGeneratedOne makes the page of the reference from the description.
// With OPENAPI=write it writes it anew.
func TestCommittedReferenceIsTheGeneratedOne(t *testing.T) {
	d, err := apitest.Parse(generated(t))
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := template.Must(template.ParseFiles("testdata/reference.tmpl")).Execute(&page, referenceOf(d)); err != nil {
		t.Fatal(err)
	}
	const file = "reference/index.html.gz"
	if os.Getenv("OPENAPI") == "write" {
		if err := os.WriteFile(file, packed(t, page.Bytes()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if had, err := unpack(content); err != nil || !bytes.Equal(had, page.Bytes()) {
		t.Errorf(notGenerated, file, err)
	}
}

func packed(t *testing.T, content []byte) []byte {
	t.Helper()
	var text bytes.Buffer
	w, err := gzip.NewWriterLevel(&text, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// referenceText is what the template shows.
type referenceText struct {
	Base    string
	Intro   []string // paragraphs
	Groups  []referenceGroup
	Codes   []referenceCode
	Objects []referenceObject
}

type referenceGroup struct {
	Title string
	Calls []referenceCall
}

type referenceCall struct {
	ID, Method, Path, Summary, Text, Who string
	Parameters, Body                     []referenceMember
	Replies                              []referenceReply
	Codes                                []referenceCode // its own
}

type referenceMember struct{ Name, Type, Object, More, Text string }

type referenceReply struct{ Status, Text, Object, MediaType, Headers string }

type referenceCode struct{ Code, Status, Text string }

type referenceObject struct {
	Name    string
	Members []referenceMember
}

// referenceGroups are the groups in their order, by how their paths begin: the longest counts.
var referenceGroups = []struct{ prefix, title string }{
	{"/keys", "Keys"},
	{"/accounts", "Accounts"},
	{"/accounts/{account}/tokens", "Tokens of an account"},
	{"/audit", "Audit trail"},
	{"/proxies", "Proxies"},
	{"/store", "Backups"},
	{"/session", "Sessions of the console"},
	{"/openapi.json", "Description"},
}

// referenceGroupOf returns the index of a path's group.
func referenceGroupOf(path string) int {
	group := -1
	for i, row := range referenceGroups {
		if strings.HasPrefix(path, row.prefix) && (group < 0 || len(row.prefix) > len(referenceGroups[group].prefix)) {
			group = i
		}
	}
	return group // -1 panics: the call needs a group
}

func referenceOf(d *apitest.Document) referenceText {
	everywhere := codesOfEveryCall(d)
	page := referenceText{Base: d.Base(), Intro: strings.Split(d.Info.Description, "\n\n"), Codes: everywhere}
	for _, row := range referenceGroups {
		page.Groups = append(page.Groups, referenceGroup{Title: row.title})
	}
	for _, c := range d.Calls() {
		call, at := referenceCallOf(d, c, everywhere), referenceGroupOf(c.Path)
		page.Groups[at].Calls = append(page.Groups[at].Calls, call)
		for _, code := range call.Codes {
			if !slices.Contains(page.Codes, code) {
				page.Codes = append(page.Codes, code)
			}
		}
	}
	page.Groups = slices.DeleteFunc(page.Groups, func(g referenceGroup) bool { return len(g.Calls) == 0 })
	for _, group := range page.Groups {
		slices.SortStableFunc(group.Calls, func(a, b referenceCall) int {
			return cmp.Or(strings.Count(a.Path, "/")-strings.Count(b.Path, "/"), slices.Index(methodOrder, a.Method)-slices.Index(methodOrder, b.Method))
		})
	}
	sortCodes(page.Codes[len(everywhere):])
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		if s := d.Components.Schemas[name]; !isBody(d, s) {
			page.Objects = append(page.Objects, referenceObject{name, referenceMembers("", s)})
		}
	}
	return page
}

// whoMay are the words for who may call, by how many kinds of callers may.
var whoMay = []string{"nobody", "administrators", "administrators and accounts", "everybody"}

var methodOrder = []string{"GET", "POST", "PATCH", "DELETE"}

// isBody reports whether s is what a call takes: such are shown at their call.
func isBody(d *apitest.Document, s *apitest.Schema) bool {
	return slices.ContainsFunc(d.Calls(), func(c apitest.Call) bool { return d.BodySchema(c) == s })
}

// codesOfEveryCall returns the codes that all calls have.
func codesOfEveryCall(d *apitest.Document) (codes []referenceCode) {
	calls := d.Calls()
	for _, code := range codesOf(calls[0].Operation) {
		if !slices.ContainsFunc(calls, func(c apitest.Call) bool { return !slices.Contains(codesOf(c.Operation), code) }) {
			codes = append(codes, code)
		}
	}
	return codes
}

// codesOf takes the codes of an operation from the descriptions of its responses.
func codesOf(operation *apitest.Operation) (codes []referenceCode) {
	for status, response := range operation.Responses {
		if status < "400" {
			continue
		}
		for _, sentence := range strings.Split(response.Description, "\n\n") {
			code, text, _ := strings.Cut(sentence, ": ")
			codes = append(codes, referenceCode{code, status, strings.ToUpper(text[:1]) + text[1:]})
		}
	}
	sortCodes(codes)
	return codes
}

func sortCodes(codes []referenceCode) {
	slices.SortFunc(codes, func(a, b referenceCode) int {
		return cmp.Or(strings.Compare(a.Status, b.Status), strings.Compare(a.Code, b.Code))
	})
}

func referenceCallOf(d *apitest.Document, c apitest.Call, everywhere []referenceCode) referenceCall {
	call := referenceCall{
		ID: c.OperationID, Method: c.Method, Path: c.Path, Summary: c.Summary, Text: c.Description, Who: whoMay[len(c.Callers)],
		Codes: slices.DeleteFunc(codesOf(c.Operation), func(code referenceCode) bool { return slices.Contains(everywhere, code) }),
	}
	for _, p := range c.Parameters {
		member := referenceMemberOf(p.Name, p.Schema, p.Required)
		member.Text, member.Type = p.Description, p.In+", "+member.Type
		call.Parameters = append(call.Parameters, member)
	}
	if s := d.BodySchema(c); s != nil {
		call.Body = referenceMembers("", s)
	}
	for _, status := range slices.Sorted(maps.Keys(c.Responses)) {
		if status < "400" {
			call.Replies = append(call.Replies, referenceReplyOf(status, c.Responses[status]))
		}
	}
	return call
}

func referenceReplyOf(status string, response *apitest.Response) referenceReply {
	reply := referenceReply{Status: status, Text: response.Description, Headers: strings.Join(slices.Sorted(maps.Keys(response.Headers)), ", ")}
	for mediaType, content := range response.Content {
		reply.Object = schemaName(content.Schema)
		if mediaType != "application/json" {
			reply.MediaType = mediaType
		}
	}
	return reply
}

func schemaName(s *apitest.Schema) string { return strings.TrimPrefix(s.Ref, "#/components/schemas/") }

// membersOf returns the members of an object, those of objects in it included.
func referenceMembers(prefix string, s *apitest.Schema) (members []referenceMember) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		property := s.Properties[name]
		members = append(members, referenceMemberOf(prefix+name, property, slices.Contains(s.Required, name)))
		members = append(members, referenceMembers(prefix+name+".", property)...)
	}
	return members
}

func referenceMemberOf(name string, s *apitest.Schema, required bool) referenceMember {
	member := referenceMember{Name: name, Type: strings.Join(s.Type, " or "), Object: schemaName(s), Text: s.Description}
	if s.Items != nil {
		member.Type, member.Object = "array of "+strings.Join(s.Items.Type, " or "), schemaName(s.Items)
	}
	if len(s.AnyOf) > 0 {
		member.Type, member.Object = strings.Join(s.AnyOf[1].Type, "")+" or", schemaName(s.AnyOf[0])
	}
	var more []string
	add := func(text string) { more = append(more, text) }
	if s.Format == "date-time" {
		add("RFC 3339")
	}
	for word, limit := range map[string]*float64{"from ": s.Minimum, "above ": s.ExclusiveMinimum} {
		if limit != nil {
			add(word + strconv.FormatFloat(*limit, 'f', -1, 64))
		}
	}
	if s.Maximum != nil {
		add("at most " + strconv.FormatFloat(*s.Maximum, 'f', -1, 64))
	}
	if s.MaxLength != nil {
		add("at most " + strconv.Itoa(*s.MaxLength) + " characters")
	}
	if required {
		add("required")
	}
	member.More = strings.Join(more, ", ")
	return member
}

// readReference returns the page as it is served.
func readReference(t *testing.T) string {
	t.Helper()
	b := newBench(t)
	return b.do(b.request("GET", referencePath, "")).wants(t, 200, "").text
}

func TestReferenceHasEveryCallCodeAndMember(t *testing.T) {
	d, page := committed(t), html.UnescapeString(readReference(t))
	has := func(text string) {
		t.Helper()
		if !strings.Contains(page, text) {
			t.Errorf("it does not have %s", text)
		}
	}
	for _, c := range d.Calls() {
		has(c.OperationID)
		has(c.Description)
		for _, p := range c.Parameters {
			has(p.Description)
		}
	}
	for _, row := range everyKind {
		if row.code != "not_found" && row.code != "method_not_allowed" {
			has(row.code)
			has(row.kind.detail[1:])
		}
	}
	for _, s := range d.Components.Schemas {
		for name, property := range s.Properties {
			if !strings.Contains(page, "<code>"+name+"</code>") {
				t.Errorf("it does not have %s", name)
			}
			has(property.Description)
		}
	}
}

func TestReferenceNeedsNoScriptAndNothingFromElsewhere(t *testing.T) {
	b, page := newBench(t), readReference(t)
	if found := regexp.MustCompile(`(?i)<script|\son[a-z]+\s*=|\sstyle=|<style|javascript:|https?://(?:[^1w]|w[^w])`).FindString(page); found != "" {
		t.Errorf("it has %q", found)
	}
	ids := map[string]bool{}
	for _, id := range regexp.MustCompile(`\sid="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[id[1]] {
			t.Errorf("two have the id %s", id[1])
		}
		ids[id[1]] = true
	}
	for _, link := range regexp.MustCompile(`\shref="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		switch at := link[1]; {
		case strings.HasPrefix(at, "data:"):
		case strings.HasPrefix(at, "#"):
			if !ids[at[1:]] {
				t.Errorf("nothing has the id of %s", at)
			}
		default:
			b.do(b.request("GET", at, "")).wants(t, 200, "")
		}
	}
}

func TestReferenceIsServedAsTheConsoleIs(t *testing.T) {
	b := newBench(t)
	for at, mediaType := range map[string]string{referencePath: "text/html; charset=utf-8", referencePath + ".css": "text/css; charset=utf-8"} {
		got := b.do(b.request("GET", at, "")).wants(t, 200, "")
		if got.header.Get("Content-Security-Policy") != contentPolicy || got.header.Get("Content-Type") != mediaType {
			t.Errorf("%s: %v", at, got.header)
		}
		request := b.request("GET", at, "")
		request.Host = "rebound.example"
		b.do(request).wants(t, 421, "unknown_host")
	}
}
