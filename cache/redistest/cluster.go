package redistest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// Cluster is three masters without replicas that serve all slots between them.
type Cluster struct {
	t     testing.TB
	nodes []*Server
}

// slots is the number of slots of every Redis Cluster.
const slots = 16384

// StartCluster starts three nodes, and returns when each of them says that the cluster is well.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for i := range 3 {
		node := Start(t, Options{Cluster: true})
		c.nodes = append(c.nodes, node)
		node.Must("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		node.Must("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(slots*i/3), strconv.Itoa(slots*(i+1)/3-1))
		for _, other := range c.nodes[:i] {
			node.Must("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.port), strconv.Itoa(other.bus))
		}
	}
	c.Settle()
	return c
}

// Nodes returns the nodes, to end or stop one. Without replicas the cluster is down while one is.
func (c *Cluster) Nodes() []*Server { return append([]*Server(nil), c.nodes...) }

// Addrs returns the host and port of each node.
func (c *Cluster) Addrs() (addrs []string) {
	for _, node := range c.nodes {
		addrs = append(addrs, node.Addr())
	}
	return addrs
}

// Settle waits until each node knows all others and serves.
func (c *Cluster) Settle() {
	c.t.Helper()
	for _, node := range c.nodes {
		node.await("the cluster to be well", func() error {
			info, err := node.Command("CLUSTER", "INFO")
			if err != nil {
				return err
			}
			for _, want := range []string{"cluster_state:ok\r\n", "cluster_slots_ok:16384\r\n", "cluster_known_nodes:3\r\n"} {
				if !strings.Contains(info, want) {
					return fmt.Errorf("%s lacks %q:\n%s", node.Addr(), want, info)
				}
			}
			return nil
		})
	}
}

// Owner returns the node that serves the key.
func (c *Cluster) Owner(key string) (owner *Server) {
	c.t.Helper()
	c.nodes[0].await("a node to own "+key, func() (err error) {
		for _, node := range c.nodes {
			if _, err = node.Command("EXISTS", key); err == nil {
				owner = node
				return nil
			}
		}
		return err
	})
	return owner
}

// MoveSlot moves the slot of the key, with all its keys, from its owner to the node, as resharding does, and returns when
// every node knows it. From then on the former owner answers MOVED.
func (c *Cluster) MoveSlot(key string, to *Server) {
	c.t.Helper()
	from := c.Owner(key)
	if from == to {
		return
	}
	slot := to.Must("CLUSTER", "KEYSLOT", key)
	target := to.Must("CLUSTER", "MYID")
	to.Must("CLUSTER", "SETSLOT", slot, "IMPORTING", from.Must("CLUSTER", "MYID"))
	from.Must("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
	for {
		keys := from.Must("CLUSTER", "GETKEYSINSLOT", slot, "100")
		if keys == "" {
			break
		}
		migrate := []string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.port), "", "0", "5000", "KEYS"}
		from.Must(append(migrate, strings.Split(keys, "\n")...)...)
	}
	// The new owner first: were it the last, both would send clients to the other for a moment.
	for _, node := range append([]*Server{to, from}, c.nodes...) {
		node.Must("CLUSTER", "SETSLOT", slot, "NODE", target)
	}
}
