package proxy

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"keystile/keys"
)

func TestMetricsPassTheLinter(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestLabelsComeFromClosedSets(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	allowed := map[string][]string{
		"status_class": statusClasses[:], "cause": causeWords[1:], "direction": {"in", "out"}, "verdict": {"allowed"},
	}
	for word := range words {
		allowed["verdict"] = append(allowed["verdict"], word)
	}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "keystile_") || family.GetHelp() == "" {
			t.Errorf("%s: %s", family.GetName(), family.GetHelp())
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if !slices.Contains(allowed[label.GetName()], label.GetValue()) {
					t.Errorf("%s has %s=%q", family.GetName(), label.GetName(), label.GetValue())
				}
			}
		}
	}
}

// series returns how many series there are.
func (s *stage) series() (n int) {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		n += len(family.GetMetric())
	}
	return n
}

func TestStrangersMakeNoSeries(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	before := s.series()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		line := fmt.Sprintf("%s /%x HTTP/1.1", []string{"GET", "POST", "EVIL", "X" + fmt.Sprint(random.Uint32())}[random.IntN(4)], random.Uint64())
		s.dial(t).send(s.stranger(line, fmt.Sprintf("X-Key: %x", random.Uint64()), "Connection: close")).answer("GET")
		s.dial(t).send(s.stranger(line, "X-Api-Key: "+keys.NewSecret(keys.NewID()).Reveal(), "Connection: close")).answer("GET")
	}
	s.settled()
	if after := s.series(); after != before {
		t.Errorf("%d series, %d before", after, before)
	}
	if n := s.counter("keystile_requests_total"); n != 400 {
		t.Errorf("%v requests counted", n)
	}
	s.untouched(t)
}

func TestEveryVerdictIsCountedWithEveryStatusItCanHave(t *testing.T) {
	t.Parallel()
	m := newMetrics(nil)
	for v := range verdictCount {
		if v != Allowed && m.requests[v][classOf(rulings[v].status)] == nil {
			t.Errorf("%v with its own status is not counted", v)
		}
		if v.mayFollowAnyStatus() && slices.Contains(m.requests[v][:], nil) {
			t.Errorf("%v after an answer began is not counted for every status", v)
		}
	}
}

func TestBytesAreCountedBothWays(t *testing.T) {
	t.Parallel()
	s := newStage(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk("hello")+chunk("world")+"0\r\n\r\n"))
	s.dial(t).send(s.request("POST /a HTTP/1.1", "Transfer-Encoding: chunked") + chunk("abc") + chunk("defg") + "0\r\n\r\n").answer("POST")
	s.settled()
	in, out := s.counter("keystile_body_bytes_total", "in"), s.counter("keystile_body_bytes_total", "out")
	if in != 7 || out != 10 {
		t.Errorf("%v in, %v out", in, out)
	}
}

// clientText is what a panic could carry from a client into the log.
const clientText = "what the client sent"

// crashing panics before or in the middle of an answer.
func crashing(value any, withBody bool) func(*settings) {
	return func(with *settings) {
		with.Transport = stub(func(r *http.Request) (*http.Response, error) {
			if !withBody {
				panic(value)
			}
			res, err := stubOK(r)
			res.ContentLength = -1
			res.Body = io.NopCloser(io.MultiReader(strings.NewReader("hello"), crashingReader{value}))
			return res, err
		})
	}
}

type crashingReader struct{ value any }

func (r crashingReader) Read([]byte) (int, error) { panic(r.value) }

func TestPanicIsOneRequestsFailure(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{"a string": clientText, "an error": errors.New(clientText), "runtime error": nil} {
		for _, withBody := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, within the answer: %v", name, withBody), func(t *testing.T) {
				t.Parallel()
				log := new(lines)
				s := newStage(t, crashing(value, withBody), func(with *settings) { with.Log, with.AccessLog = log.logger(), log.logger() })
				c := s.dial(t).send(s.request("GET /a HTTP/1.1"))
				if withBody {
					checkBroken(t, c)
				} else {
					res, body := c.answer("GET")
					if res.StatusCode != 500 || strings.Contains(body, clientText) {
						t.Errorf("status %d: %s", res.StatusCode, body)
					}
					checkRefusal(t, body, "internal_error", "request id")
				}
				s.settled()
				class := map[bool]string{true: "2xx", false: "5xx"}[withBody]
				if n := s.counter("keystile_requests_total", "internal_error", class); n != 1 {
					t.Errorf("%v requests counted as internal_error", n)
				}
				s.proxy.Close()
				if text := log.text(); strings.Contains(text, clientText) || !strings.Contains(text, `"stack":"goroutine`) {
					t.Errorf("logged: %s", text)
				}
				s.blameless(t)
			})
		}
	}
}

// checkBroken asserts that an answer does not end cleanly.
func checkBroken(t *testing.T, c *client) {
	t.Helper()
	res, err := http.ReadResponse(c.reader, nil)
	if err == nil {
		_, err = io.ReadAll(res.Body)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v: a clean end", err)
	}
}
