package main

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// hostileHeads are request lines and headers with S for a secret, its encoded forms
// and a credential that would be accepted. Host and Connection are added.
func hostileHeads(secret, encoded, credential string) []string {
	return []string{
		"GET /" + secret + " HTTP/1.1", "GET /a/" + encoded + "/b HTTP/1.1", "GET /" + url.QueryEscape(everyPercent(secret)) + " HTTP/1.1",
		"GET /" + secret[:20] + "%" + hex.EncodeToString([]byte(secret[20:21])) + secret[21:] + " HTTP/1.1",
		"GET /" + strings.Repeat("x", 230) + secret + " HTTP/1.1", "GET /" + strings.Repeat("x", 230) + encoded + " HTTP/1.1",
		"GET /?api_key=" + secret + " HTTP/1.1", "GET /?" + encoded + " HTTP/1.1", "GET //" + secret + "@example.com/ HTTP/1.1",
		"GET http://" + secret + "@example.com/ HTTP/1.1", "GET http://" + secret + "/" + secret + " HTTP/1.1",
		"CONNECT " + secret + ":443 HTTP/1.1", "OPTIONS " + secret + " HTTP/1.1", "TRACE /" + secret + " HTTP/1.1",
		secret + " / HTTP/1.1", "GET / " + secret, "GET /" + secret + " HTTP/9.9", "GET /%zz" + secret + " HTTP/1.1",
		"GET / HTTP/1.1\r\nX-Secret: " + secret, "GET / HTTP/1.1\r\nX-Key: " + secret, "GET / HTTP/1.1\r\nX_Secret: " + secret,
		"GET / HTTP/1.1\r\nX-Key: Key " + secret + "\r\nX-Secret: Secret " + secret, "GET / HTTP/1.1\r\nAuthorization: " + secret,
		"GET / HTTP/1.1\r\nAuthorization: Token " + secret, "GET / HTTP/1.1\r\nAuthorization: Bearer " + secret + "x",
		"GET / HTTP/1.1\r\nAuthorization: Bearer " + secret[:len(secret)-1], "GET / HTTP/1.1\r\nAuthorization: Bearer " + encoded,
		"GET / HTTP/1.1\r\nAuthorization: Bearer Bearer " + secret, "GET / HTTP/1.1\r\nx-api-key: Secret " + secret,
		"GET / HTTP/1.1\r\nAuthorization: Basic " + base64.StdEncoding.EncodeToString([]byte(secret)),
		"GET / HTTP/1.1\r\nAuthorization: Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+secret+"!")),
		"GET / HTTP/1.1\r\nAuthorization: Bearer " + secret + "\r\nx-api-key: " + secret,
		"GET / HTTP/1.1\r\nX-Request-Id: " + secret, "GET / HTTP/1.1\r\nX-Request-Id: " + secret[:60],
		"GET / HTTP/1.1\r\nUser-Agent: " + secret, "GET / HTTP/1.1\r\nReferer: http://x/" + secret, "GET / HTTP/1.1\r\nCookie: a=" + secret,
		"GET / HTTP/1.1\r\nX-Forwarded-For: " + secret, "GET / HTTP/1.1\r\nForwarded: for=" + secret, "GET / HTTP/1.1\r\nOrigin: http://" + secret,
		"GET / HTTP/1.1\r\nConnection: " + secret, "GET / HTTP/1.1\r\nUpgrade: " + secret + "\r\nConnection: upgrade",
		"GET / HTTP/1.1\r\nExpect: " + secret, "POST / HTTP/1.1\r\nContent-Length: " + secret, "POST / HTTP/1.1\r\nTransfer-Encoding: " + secret,
		"GET / HTTP/1.1\r\nHost: " + secret, "GET / HTTP/1.1\r\n" + secret + ": x", "GET / HTTP/1.1\r\n" + secret + " x", "GET / HTTP/1.1\r\nX: \x00" + secret,
		"GET /" + secret + " HTTP/1.1\r\n" + credential, "GET /" + encoded + " HTTP/1.1\r\n" + credential, "GET /?q=" + secret + " HTTP/1.1\r\n" + credential,
		"GET /" + secret + ";/../ HTTP/1.1\r\n" + credential, "GET / HTTP/1.1\r\nX-Request-Id: " + secret + "\r\n" + credential,
		"GET / HTTP/1.1\r\nReferer: http://x/" + secret + "\r\n" + credential, secret + " / HTTP/1.1\r\n" + credential,
	}
}

// hostileCalls are requests to the admin API with a secret where none belongs. Its own
// token is sent with each.
func hostileCalls(secret, encoded string) [][]string {
	return [][]string{
		{"GET", keysPath + "/" + secret, ""},
		{"GET", keysPath + "/" + encoded, ""},
		{"DELETE", keysPath + "/" + secret, ""},
		{"PATCH", keysPath + "/" + secret, `{"active":true}`},
		{"GET", "/" + secret, ""},
		{"GET", "/api/v1/" + encoded, ""},
		{"GET", keysPath + "?account=" + secret, ""},
		{"GET", keysPath + "?" + secret + "=1", ""},
		{"GET", keysPath + "?account=" + encoded, ""},
		{"GET", keysPath + "?a=" + secret + "&a=" + secret, ""},
		{"GET", keysPath + "?%zz" + secret, ""},
		{"POST", keysPath, `{"name":"` + secret + `"}`},
		{"POST", keysPath, `{"` + secret + `":1}`},
		{"POST", keysPath, `{"name":` + secret + `}`},
		{"POST", keysPath, `{"account":"` + secret + `"}`},
		{"POST", keysPath, `{"rate":{"per_second":"` + secret + `","burst":1}}`},
		{"POST", keysPath, `{"name":["` + secret + `"]}`},
		{"POST", keysPath, secret},
		{"POST", keysPath, `{"name":"a","name":"` + secret + `"}`},
		{"POST", keysPath, `{"name":"` + strings.Repeat("x", 70) + secret + `"}`},
		{"POST", keysPath, `{"x` + secret + `":{"` + secret + `":1}}`},
		{"POST", keysPath, "{}", "Idempotency-Key: " + secret},
		{"POST", keysPath, `{"name":"reused"}`, "Idempotency-Key: " + secret},
		{"POST", keysPath, "{}", "Content-Type: " + secret},
		{"POST", keysPath, "{}", "Content-Encoding: " + secret},
		{"POST", keysPath, "{}", "Origin: http://" + secret + ".example"},
		{"GET", keysPath, "", "X-Request-Id: " + secret},
		{"GET", keysPath, "", "X-Request-Id: " + secret[:min(60, len(secret))]},
		{"GET", keysPath, "", "Accept: " + secret},
		{"GET", keysPath, "", "User-Agent: " + secret},
		{"GET", keysPath, "", "Authorization: Bearer " + secret},
		{secret, keysPath, ""},
		{"GET", "/metrics?" + secret, ""},
		{"GET", "/readyz?" + secret, ""},
	}
}

// indiscreet is an upstream that fails in every way, and sends back what it was sent.
func indiscreet(t testing.TB, echo func() string) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all := echo() + " " + r.Header.Get("Authorization") + " " + r.Header.Get("X-Upstream-Key")
		answer, isFailure := map[string]string{
			"/closed":      "",
			"/garbage":     all + "\r\n\r\n",
			"/status":      "HTTP/1.1 " + all + "\r\n\r\n",
			"/header":      "HTTP/1.1 200 OK\r\n" + all + "\r\n\r\n",
			"/length":      "HTTP/1.1 200 OK\r\nContent-Length: " + all + "\r\n\r\n",
			"/encoding":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + all + "\r\n\r\n",
			"/chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + all + "\r\n",
			"/broken":      "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nso far",
			"/switch":      "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: " + all + "\r\n\r\n",
			"/unsolicited": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 " + all + "\r\n\r\n",
		}[r.URL.Path]
		if !isFailure {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}))
	t.Cleanup(server.Close)
	return server
}
