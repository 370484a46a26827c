package admin

import "context"

// Proxy is a process that shares the store.
type Proxy struct {
	Proxy   string `json:"proxy" doc:"Its name, as in receipts." example:"gate-1/4711"`
	Applied uint64 `json:"applied" doc:"Version of the last change by which it judges requests."`
	Serving bool   `json:"serving" doc:"It may admit requests."`
}

type proxiesOutput struct {
	Body struct {
		Proxies []Proxy `json:"proxies" nullable:"false"`
	}
}

func (a *Admin) listProxies(context.Context, *struct{}) (*proxiesOutput, error) {
	out := &proxiesOutput{}
	out.Body.Proxies = append([]Proxy{}, a.proxies()...)
	return out, nil
}
