package cache

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keystile/keys"
)

// scriptTest calls the scripts themselves, as a process of its own would that says what
// it likes about itself.
type scriptTest struct {
	*testing.T
	r     *Redis
	s     *session
	store *rawStore
}

func newScriptTest(t *testing.T, address string) *scriptTest {
	m := join(t, address, inHaste)
	if err := m.Close(); err != nil { // nobody else is there
		t.Fatal(err)
	}
	r := newRedis(RedisOptions{Server: RedisServer{Addresses: []string{address}}, PerAccount: 3})
	r.store = m.storeID()
	s, err := r.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.close()
		_ = r.client.Close()
	})
	return &scriptTest{t, r, s, look(t, address)}
}

// scripted runs a check on every kind of server.
func scripted(t *testing.T, check func(x *scriptTest)) {
	kinds(t, func(t *testing.T, start func() string) { check(newScriptTest(t, start())) })
}

// call runs a script as the server run, with an operation's name where it has one.
func (x *scriptTest) call(script *redis.Script, names []string, args ...any) []string {
	x.Helper()
	answer, err := x.r.call(x.Context(), x.s, script, names, args...)
	if err != nil {
		x.Fatal(err)
	}
	return answer
}

// sealed are the arguments of a change with one entry, sealed for where the store is now.
func (x *scriptTest) sealed(args ...any) []any {
	x.Helper()
	meta := x.store.hash("meta")
	version := parseNumber(meta["version"])
	head, err := parseLink(meta["head"])
	if err != nil {
		x.Fatal(err)
	}
	seal := &sealer{from: position{version, head}, to: position{version, head}}
	entry, err := seal.seal(keys.Entry{Action: "test"})
	if err != nil {
		x.Fatal(err)
	}
	return slices.Concat([]any{version, linkText(head), x.r.o.AuditKeep}, entry, args)
}

// change runs a script that makes a change. The first script of a test finds that the
// server is another one, and moves the version: what was sealed before is sealed again.
func (x *scriptTest) change(script *redis.Script, names []string, args ...any) []string {
	x.Helper()
	answer := x.call(script, names, x.sealed(args...)...)
	if answer[0] == "moved" {
		answer = x.call(script, names, x.sealed(args...)...)
	}
	return answer
}

func (x *scriptTest) create(op, id, name string) []string {
	x.Helper()
	names := []string{x.r.namesOf(keys.DefaultAccount), x.r.operationName(op), x.r.operationName("unused")}
	if name != "" {
		return x.change(x.r.scripts.create, names, id, keys.DefaultAccount, name, "0", "{}", 3, "", 1000, 0)
	}
	unnamed := x.call(x.r.scripts.create, names, x.sealed(id, keys.DefaultAccount, "", "1", "{}", 3, "", 1000, 0)...)
	if unnamed[0] != "moved" {
		return unnamed
	}
	return x.change(x.r.scripts.create, names, id, keys.DefaultAccount, unnamed[3], "1", "{}", 3, "", 1000, 0)
}

func (x *scriptTest) update(op, id string, version, name, active string) []string {
	x.Helper()
	return x.change(x.r.scripts.update, []string{x.r.namesOf(keys.DefaultAccount), x.r.operationName(op)}, id, version, name, active, "{}")
}

func (x *scriptTest) delete(op, id, version string) []string {
	x.Helper()
	return x.change(x.r.scripts.delete, []string{x.r.namesOf(keys.DefaultAccount), x.r.operationName(op)}, id, version)
}

// says fails the test unless a script's answer begins with these words.
func (x *scriptTest) says(answer []string, want ...string) {
	x.Helper()
	if len(answer) < len(want) || !slices.Equal(answer[:len(want)], want) {
		x.Errorf("the script says %q, want %q", answer, want)
	}
}

// unchanged fails the test if do changes anything that protocol.md names.
func (x *scriptTest) unchanged(what string, do func()) {
	x.Helper()
	state := func() string {
		text := fmt.Sprint(len(x.store.log()), x.store.run("XLEN", "{keystile}:audit"))
		for _, part := range []string{"meta", "records", "names:default", "tombs", "accounts", "tokens", "tokens:default"} {
			hash := x.store.hash(part)
			for _, field := range slices.Sorted(maps.Keys(hash)) {
				text += "\n" + part + " " + field + " " + hash[field]
			}
		}
		return text
	}
	before := state()
	do()
	if after := state(); after != before {
		x.Errorf("%s has changed\n%s\nto\n%s", what, before, after)
	}
}

// anID returns the text of a new id.
func anID() string {
	id := keys.NewID()
	return string(id[:])
}

func TestRefusedScriptChangesNothing(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		a, b := anID(), anID()
		x.says(x.create("1", a, "one"), "done", "1")
		x.says(x.create("2", b, ""), "done", "2")
		gone := anID()
		x.says(x.create("3", gone, ""), "done", "3")
		x.says(x.delete("4", gone, "3"), "done", "4")
		x.unchanged("a refusal", func() {
			x.says(x.create("5", a, "new"), "exists")
			x.says(x.create("6", gone, "new"), "exists")
			x.says(x.create("7", anID(), "one"), "taken")
			x.says(x.update("8", a, "9", "new", "1"), "conflict")
			x.says(x.update("9", a, "1", "API key 1", "1"), "taken")
			x.says(x.update("10", gone, "3", "new", "1"), "missing")
			x.says(x.delete("11", a, "2"), "conflict")
			x.says(x.delete("12", gone, "3"), "missing")
		})
		x.says(x.create("13", anID(), ""), "done", "5")
		x.unchanged("the limit", func() { x.says(x.create("14", anID(), "one"), "limit") })
	})
}

func TestScriptSentTwiceAnswersTheSameAndWrites(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		id := anID()
		calls := []func() []string{
			func() []string { return x.create("c", id, "one") },
			func() []string { return x.update("u", id, "1", "two", "0") },
			func() []string { return x.delete("d", id, "2") },
		}
		names := []string{"c", "u", "d"}
		for i, call := range calls {
			first := call()
			x.says(first, "done", fmt.Sprint(i+1))
			x.store.run("PEXPIRE", x.r.operationName(names[i]), "60000")
			x.unchanged("a repetition", func() {
				for range 3 {
					x.says(call(), first...)
				}
			})
			if ttl := x.store.run("PTTL", x.r.operationName(names[i])).(int64); ttl <= 60_000 {
				x.Errorf("the repetition wrote nothing that WAIT could speak of: it still expires in %d ms", ttl)
			}
		}
	})
}

func TestRecordKeepsItsBirthAndTakesTheNextVersion(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		id := anID()
		x.create("1", anID(), "")
		x.create("2", id, "name")
		x.says(x.update("3", id, "2", "other", "0"), "done", "3", "3\n2\ndefault\nother\n0\n{}")
		x.store.consistent()
	})
}

func TestScriptRefusesAStoreItDoesNotKnow(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		known := x.r.store
		for _, store := range []string{"", "another"} {
			x.r.store = store
			x.unchanged("a script for another store", func() { x.allForeign(store) })
		}
		x.store.run("FLUSHALL")
		for _, store := range []string{"", known} {
			x.r.store = store
			x.allForeign(store)
		}
		if n := x.store.size(); n != 0 {
			x.Errorf("%d names were written into an empty server", n)
		}
	})
}

func (x *scriptTest) allForeign(store string) {
	x.Helper()
	all := x.r.scripts
	for name, script := range map[string]*redis.Script{
		"create": all.create, "update": all.update, "delete": all.delete, "touch": all.touch, "poll": all.poll,
		"raise": all.raise, "bury": all.bury, "list": all.list, "import": all.imported,
		"account_keep": all.accountKeep, "account_delete": all.accountDelete, "tokens": all.tokens,
		"token_create": all.tokenCreate, "token_delete": all.tokenDelete,
	} {
		args := []any{store, x.s.run, x.r.name("hint")}
		for range 14 {
			args = append(args, "1")
		}
		answer, err := script.Run(x.Context(), x.s.conn, append(x.r.common(), x.r.namesOf(keys.DefaultAccount), x.r.operationName("o"), "{keystile}:u", "{keystile}:v"), args...).StringSlice()
		if err != nil || answer[0] != "foreign" {
			x.Errorf("%s for the store %q: %q, %v", name, store, answer, err)
		}
	}
}

func TestAnotherServerBeginsAboveAllThatTheOneBeforeCanHaveSaid(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		x.s.run = "first"
		x.store.run("HDEL", "{keystile}:meta", "run")
		x.says(x.create("1", anID(), ""), "done", "1")
		if at := x.store.hash("meta")["run_at"]; at != "" {
			x.Errorf("the first server is said to have taken over at %s", at)
		}
		x.s.run = "second"
		x.says(x.create("2", anID(), ""), "done", strconv.Itoa(1+1<<20+1))
		millis, _ := strconv.ParseInt(x.store.hash("meta")["run_at"], 10, 64)
		if ago := time.Since(time.UnixMilli(millis)); ago < -time.Second || ago > time.Minute {
			x.Errorf("the second server took over %v ago", ago)
		}
		x.says(x.create("3", anID(), ""), "done", strconv.Itoa(1+1<<20+2))
		x.s.run = "" // a server that does not say
		x.says(x.delete("4", string(x.store.log()[0].id[:]), "1"), "done", strconv.Itoa(1+1<<20+3))
		x.store.consistent()
	})
}

func TestRaiseNeverLowersTheVersion(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		x.create("1", anID(), "")
		for _, c := range []struct{ to, want string }{{"0", "1"}, {"1", "1"}, {"7", "7"}, {"3", "7"}} {
			x.says(x.call(x.r.scripts.raise, nil, c.to), "ok")
			if got := x.store.hash("meta")["version"]; got != c.want {
				x.Errorf("raised to %s, the version is %s, want %s", c.to, got, c.want)
			}
		}
		x.says(x.create("2", anID(), ""), "done", "8")
		x.store.consistent()
	})
}

func TestRowFromAnotherLineOfHistoryHasAppliedNothing(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		x.create("1", anID(), "")
		for applied, want := range map[uint64]uint64{0: 0, 1: 1, 2: 0, 1 << 50: 0} {
			sent := row{applied: applied, live: true, counter: 7, staleness: time.Second, name: "some name"}
			args := append([]any{x.r.store, x.s.run, x.r.name("hint")}, "me", sent.String(), applied, 10, "0")
			if _, err := x.r.scripts.poll.Run(x.Context(), x.s.conn, x.r.common(), args...).Slice(); err != nil {
				x.Fatal(err)
			}
			got, ok := parseRow(x.store.hash("proxies")["me"])
			if sent.applied = want; !ok || got != sent {
				x.Errorf("of a process at version %d the table has %+v", applied, got)
			}
		}
	})
}

func TestRowThatMovedIsNotBuried(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		x.store.run("HSET", "{keystile}:proxies", "still", "1 1 1 1 n", "moved", "1 1 2 1 n")
		x.call(x.r.scripts.bury, nil, "still", "1 1 1 1 n", "moved", "1 1 1 1 n", "unknown", "1 1 1 1 n")
		if rows := x.store.hash("proxies"); len(rows) != 1 || rows["moved"] == "" {
			x.Errorf("the table has %v", rows)
		}
	})
}

func TestLatestUseWinsAndUnknownIDsArePassedOver(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		id := anID()
		x.create("1", id, "")
		for _, c := range []struct{ at, want string }{
			{"5", "5"}, {"3 ab", "5"}, {"6 ab", "6 ab"}, {"6 cd", "6 ab"}, {"5", "6 ab"}, {"10 cd", "10 cd"}, {"11", "11"},
		} {
			x.call(x.r.scripts.touch, nil, id, c.at, anID(), "77")
			if used := x.store.hash("used"); len(used) != 1 || used[id] != c.want {
				x.Errorf("after %s: %v", c.at, used)
			}
		}
		x.says(x.call(x.r.scripts.list, []string{x.r.namesOf(keys.DefaultAccount)}, keys.DefaultAccount)[4:], id, "1\n1\ndefault\nAPI key 1\n1\n{}", "11")
		x.delete("2", id, "1")
		if used := x.store.hash("used"); len(used) != 0 {
			x.Errorf("of a deleted key it is kept when it was used: %v", used)
		}
	})
}

// TestLogIsBounded fills it beyond what is kept.
func TestLogIsBounded(t *testing.T) {
	x := newScriptTest(t, startServer(t).Addr())
	id := anID()
	x.create("0", id, "")
	x.update("warm", id, "no", "", "") // so that the server has the script
	head, err := parseLink(x.store.hash("meta")["head"])
	if err != nil {
		t.Fatal(err)
	}
	seal := &sealer{to: position{1, head}}
	const changes = 10_500
	for part := range 21 {
		pipe := x.s.conn.Pipeline()
		for v := range changes / 21 {
			v += part * changes / 21
			from := seal.to
			args, err := seal.one(keys.Entry{}, id, v+1, "API key 1", v%2, "{}")
			if err != nil {
				t.Fatal(err)
			}
			all := append([]any{x.r.store, x.s.run, x.r.name("hint"), from.version, linkText(from.head), x.r.o.AuditKeep}, args...)
			x.r.scripts.update.EvalSha(x.Context(), pipe, append(x.r.common(), x.r.namesOf(keys.DefaultAccount), x.r.operationName(fmt.Sprint("u", v))), all...)
		}
		if _, err := pipe.Exec(x.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(x.store.log()); n < 10_000 || n > 10_200 {
		t.Errorf("after %d changes the log has %d entries", changes, n)
	}
	x.store.consistent()
}

// TestTextIsSummedAsTheScriptsSumIt compares two implementations of one number.
func TestTextIsSummedAsTheScriptsSumIt(t *testing.T) {
	scripted(t, func(x *scriptTest) {
		var set replica
		set.init()
		for i := range 3 {
			id := keys.NewID()
			x.create(fmt.Sprint("c", i), string(id[:]), strings.Repeat("n", i+1)+"\u00e9\u2028")
			set.put(id, x.store.hash("records")[string(id[:])])
		}
		if got := x.store.hash("meta")["digest"]; got != fmt.Sprint(set.digest) {
			x.Errorf("the scripts say %s, this process %d", got, set.digest)
		}
	})
}
