package redistest

import (
	"testing"
)

func TestSentinelsReplaceAPrimaryThatIsKilledStoppedOrToldToGo(t *testing.T) {
	t.Parallel()
	primary := Start(t, Options{Password: "secret"})
	first := Start(t, Options{Password: "secret", ReplicaOf: primary})
	second := Start(t, Options{Password: "secret", ReplicaOf: primary})
	s := StartSentinel(t, primary, first, second)
	if s.Primary() != primary || s.PrimaryAddr() != primary.Addr() || len(s.Addrs()) != 3 {
		t.Fatalf("the primary is %s, want %s; sentinels: %q", s.PrimaryAddr(), primary.Addr(), s.Addrs())
	}
	primary.Must("SET", "n", "1")
	primary.Must("WAIT", "2", "5000")

	told := s.Failover()
	told.Stop()
	stopped := s.AwaitFailover(told.Addr())
	if got := stopped.Must("GET", "n"); got != "1" {
		t.Errorf("after the second failover n is %q", got)
	}
	told.Continue()
	s.Settle()
	stopped.Kill()
	if last := s.AwaitFailover(stopped.Addr()); last.Must("GET", "n") != "1" {
		t.Error("the change was lost")
	}
}

func TestSentinelsWithoutAQuorumNameNoPrimary(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t, Start(t, Options{}))
	s.Nodes()[0].Kill()
	if s.PrimaryAddr() == "" {
		t.Error("two sentinels name no primary")
	}
	s.Nodes()[1].Stop()
	if addr := s.PrimaryAddr(); addr != "" {
		t.Errorf("one sentinel names %s", addr)
	}
}
