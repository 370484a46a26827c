package redistest

import (
	"fmt"
	"strings"
	"testing"
)

func TestClusterServesEveryKeyAtOneNodeAndMovesSlots(t *testing.T) {
	t.Parallel()
	c := StartCluster(t)
	if len(c.Addrs()) != 3 {
		t.Fatalf("the nodes are %q", c.Addrs())
	}
	for _, node := range c.Nodes() {
		if info := node.Must("CLUSTER", "INFO"); !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
			t.Errorf("%s is not ready: %s", node.Addr(), info)
		}
	}
	owners := map[*Server]int{}
	for i := range 30 {
		owners[c.Owner(fmt.Sprint(i))]++
	}
	if len(owners) != 3 {
		t.Errorf("only %d of three nodes own one of 30 keys", len(owners))
	}
	from := c.Owner("{k}a")
	from.Must("SET", "{k}a", "1")
	from.Must("SET", "{k}b", "2")
	to := c.Nodes()[0]
	if to == from {
		to = c.Nodes()[1]
	}
	c.MoveSlot("{k}a", to)
	if got := to.Must("MGET", "{k}a", "{k}b"); got != "1\n2" {
		t.Errorf("the new owner has %q", got)
	}
	_, err := from.Command("GET", "{k}a")
	if err == nil || !strings.HasPrefix(err.Error(), "MOVED ") || !strings.HasSuffix(err.Error(), to.Addr()) {
		t.Errorf("the former owner says %v, want MOVED to %s", err, to.Addr())
	}
	c.Settle()
	if c.Owner("{k}b") != to {
		t.Error("the slot went back")
	}
}
