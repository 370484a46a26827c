package cache

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"keystile/keys"
)

// segmentSize is how many buckets are added to a table at a time.
const segmentSize = 512

// table is a hash table for many readers without locks and one writer at a time.
// It grows by linear hashing: each key that is added splits at most one bucket, so
// no change ever costs more than a few nodes, whatever the number of keys. Nodes
// never change once they can be reached; a chain is changed by copying the nodes
// before the place and storing its head. The number of buckets only rises: a table
// that has lost most of its keys keeps 8 bytes for each bucket it once needed.
type table struct {
	seeds    [2]uint64
	buckets  atomic.Uint64 // in use; segments has room for at least these
	segments atomic.Pointer[[]*segment]
	active   atomic.Int64
	inactive atomic.Int64
	accounts map[string]account // the writer's alone
}

type segment [segmentSize]atomic.Pointer[node]

// node is one key. It takes 176 bytes, one of the allocator's size classes. What
// passing over a node needs comes first, in one line of the processor's cache.
type node struct {
	next  *node
	grant keys.Grant
}

// account is the one copy of an account's name, and how many keys point to it.
type account struct {
	name string
	keys int
}

func newTable() *table {
	t := &table{seeds: [2]uint64{rand.Uint64(), rand.Uint64()}, accounts: map[string]account{}}
	t.segments.Store(&[]*segment{new(segment)})
	t.buckets.Store(1)
	return t
}

// find returns the node of id or nil. A reader may hold a number of buckets that is
// out of date and look into a bucket whose nodes have moved; so a miss counts only
// if no bucket was split meanwhile.
func (t *table) find(id *keys.ID) *node {
	hash := t.hash(id)
	for {
		buckets := t.buckets.Load()
		for n := t.bucket(place(hash, buckets)).Load(); n != nil; n = n.next {
			if n.grant.ID == *id {
				return n
			}
		}
		if t.buckets.Load() == buckets {
			return nil
		}
	}
}

// place returns the bucket of a hash when there are n buckets (Litwin, Linear
// hashing, 1980): the hash modulo the power of two above n or, where that bucket
// does not exist yet, modulo the one below.
func place(hash, n uint64) uint64 {
	level := bits.Len64(n - 1)
	i := hash & (1<<level - 1)
	if i >= n {
		i &= 1<<(level-1) - 1
	}
	return i
}

// hash spreads ids by one wide multiplication (as in wyhash). It reads the last 16 of the
// 22 characters, which are more than 95 random bits. An id that is passed by value is
// copied by loads and stores that overlap, and its first characters come out of that late:
// where reads follow each other, hashing them too costs 300 ns a read. Ids that are equal
// in these 16, which only an import can bring, lie in one bucket.
func (t *table) hash(id *keys.ID) uint64 {
	high, low := bits.Mul64(binary.LittleEndian.Uint64(id[6:])^t.seeds[0], binary.LittleEndian.Uint64(id[14:])^t.seeds[1])
	return high ^ low
}

func (t *table) bucket(i uint64) *atomic.Pointer[node] {
	return &(*t.segments.Load())[i/segmentSize][i%segmentSize]
}

// put adds the grant or replaces the one with its id.
func (t *table) put(grant keys.Grant) {
	old := t.find(&grant.ID)
	grant.Account = t.intern(grant.Account)
	bucket := t.bucket(place(t.hash(&grant.ID), t.buckets.Load()))
	n := &node{grant: grant}
	if old == nil {
		n.next = bucket.Load()
		bucket.Store(n)
		t.count(grant.Active, 1)
		t.split()
		return
	}
	n.next = old.next
	bucket.Store(replaced(bucket.Load(), old, n))
	t.count(old.grant.Active, -1)
	t.count(grant.Active, 1)
	t.release(old.grant.Account)
}

// remove takes the key out, if it is there.
func (t *table) remove(id *keys.ID) {
	old := t.find(id)
	if old == nil {
		return
	}
	bucket := t.bucket(place(t.hash(id), t.buckets.Load()))
	bucket.Store(replaced(bucket.Load(), old, old.next))
	t.count(old.grant.Active, -1)
	t.release(old.grant.Account)
}

// replaced returns the chain with copies of the nodes before old, then rest.
func replaced(chain, old, rest *node) *node {
	if chain == old {
		return rest
	}
	return &node{grant: chain.grant, next: replaced(chain.next, old, rest)}
}

// split adds one bucket when there are more keys than buckets, and moves the nodes
// that belong there out of the one bucket they can be in. The order matters to
// readers: the nodes can be found in the new place before they leave the old one.
func (t *table) split() {
	n := t.buckets.Load()
	if uint64(t.active.Load()+t.inactive.Load()) <= n {
		return
	}
	t.extend(n)
	source := t.bucket(n &^ (1 << (bits.Len64(n) - 1)))
	var stay, move *node
	for at := source.Load(); at != nil; at = at.next {
		if place(t.hash(&at.grant.ID), n+1) == n {
			move = &node{grant: at.grant, next: move}
		} else {
			stay = &node{grant: at.grant, next: stay}
		}
	}
	t.bucket(n).Store(move)
	t.buckets.Store(n + 1)
	source.Store(stay)
}

// extend makes room for bucket n.
func (t *table) extend(n uint64) {
	segments := *t.segments.Load()
	if n/segmentSize < uint64(len(segments)) {
		return
	}
	more := make([]*segment, len(segments)+1)
	copy(more, segments)
	more[len(segments)] = new(segment)
	t.segments.Store(&more)
}

func (t *table) count(active bool, by int64) {
	if active {
		t.active.Add(by)
	} else {
		t.inactive.Add(by)
	}
}

// intern returns the one copy of an account's name and counts its use.
func (t *table) intern(name string) string {
	a, known := t.accounts[name]
	if !known {
		a.name = strings.Clone(name)
	}
	a.keys++
	t.accounts[a.name] = a
	return a.name
}

func (t *table) release(name string) {
	a := t.accounts[name]
	if a.keys--; a.keys == 0 {
		delete(t.accounts, name)
		return
	}
	t.accounts[name] = a
}

// all returns every node. For the writer.
func (t *table) all() iter.Seq[*node] {
	return func(yield func(*node) bool) {
		for i := range t.buckets.Load() {
			for n := t.bucket(i).Load(); n != nil; n = n.next {
				if !yield(n) {
					return
				}
			}
		}
	}
}
