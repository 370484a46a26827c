package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"keystile/keys"
)

// discarding is a client that takes everything.
type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) Write(b []byte) (int, error) { return len(b), nil }
func (d *discarding) WriteHeader(int)             {}

// benchStage is a proxy without sockets on either side.
func benchStage(b *testing.B) (*Proxy, *keys.Grant, keys.Secret) {
	b.Helper()
	records := newRecords()
	id, secret := records.add()
	p := New(Options{Records: records, Upstream: &url.URL{Scheme: "http", Host: "upstream.test"}, Transport: stub(stubOK)})
	b.Cleanup(p.Close)
	grant, _ := records.Get(id)
	return p, grant, secret
}

// BenchmarkJudge is the verdict alone: credentials, digest, comparison.
func BenchmarkJudge(b *testing.B) {
	p, grant, secret := benchStage(b)
	h := http.Header{"Authorization": {"Bearer " + secret.Reveal()}, "Accept": {"*/*"}, "User-Agent": {"bench"}}
	b.ReportAllocs()
	for b.Loop() {
		sent, refused := p.carriers.read(h)
		if refused != nil {
			b.Fatal(refused)
		}
		if _, verdict := p.judge(grant, sent); verdict != Allowed {
			b.Fatal(verdict)
		}
	}
}

// BenchmarkAllowed is a whole request, with a transport that answers at once.
func BenchmarkAllowed(b *testing.B) {
	p, _, secret := benchStage(b)
	benchRequests(b, p, secret.Reveal())
}

// BenchmarkRefused is a whole request of a stranger with a well-formed secret.
func BenchmarkRefused(b *testing.B) {
	p, _, _ := benchStage(b)
	benchRequests(b, p, keys.NewSecret(keys.NewID()).Reveal())
}

func benchRequests(b *testing.B, p *Proxy, secret string) {
	b.Helper()
	r := httptest.NewRequest("GET", "/v1/models", nil)
	r.Header.Set("Authorization", "Bearer "+secret)
	b.ReportAllocs()
	for b.Loop() {
		p.ServeHTTP(&discarding{make(http.Header, 8)}, r)
	}
}
