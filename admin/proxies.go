package admin

import "net/http"

// Proxy is a process that shares the store.
type Proxy struct {
	Proxy   string `json:"proxy" doc:"Its name, as in receipts." example:"gate-1/4711"`
	Applied uint64 `json:"applied" doc:"Version of the last change by which it judges requests."`
	Serving bool   `json:"serving" doc:"It may admit requests."`
}

// ProxyList is the reply that lists proxies.
type ProxyList struct {
	Proxies []Proxy `json:"proxies" nullable:"false"`
}

func (a *Admin) listProxies(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, ProxyList{append([]Proxy{}, a.proxies()...)})
}
