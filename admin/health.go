package admin

import (
	"encoding/json"
	"io"
	"net/http"
)

// healthz says that the process answers.
func (a *Admin) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}

// readiness is the body of /readyz.
type readiness struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// readyz says whether the process can serve, and why not.
func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	status, body := http.StatusOK, readiness{Status: "ready"}
	if err := a.ready(); err != nil {
		status, body = http.StatusServiceUnavailable, readiness{"not ready", err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
