package main

import (
	"maps"
	"slices"
	"strings"
)

const envPrefix = "KEYSTILE_"

// override sets one option from a command line flag, above environment and file.
type override struct {
	flag   string // as the user typed it, for messages: "--proxy-listen"
	option string // path: "proxy.listen"
	text   string // lists are separated by commas
}

// applyEnvironment sets the options that KEYSTILE_ variables name. A variable's text is a value and nothing else: it is never read as YAML.
func (l *configLoader) applyEnvironment(env []string) {
	byVariable := map[string]option{}
	for _, o := range options(&l.config) {
		byVariable[o.variable()] = o
	}
	for _, name := range variableNames(env) {
		o, known := byVariable[name]
		if !known {
			l.warnUnknown(name, byVariable)
			continue
		}
		l.movePlace(o.path, place{text: name})
		if err := o.setText(lookup(env, name)); err != nil {
			l.reject(o.path, err.Error())
		}
	}
}

func (l *configLoader) applyFlags(flags []override) {
	byPath := map[string]option{}
	for _, o := range options(&l.config) {
		byPath[o.path] = o
	}
	for _, f := range flags {
		l.movePlace(f.option, place{text: f.flag})
		o, known := byPath[f.option]
		if !known {
			l.reject(f.option, "there is no such option")
		} else if err := o.setText(f.text); err != nil {
			l.reject(o.path, err.Error())
		}
	}
}

// movePlace notes that an option now has its value from p, and that the items it had before are gone.
func (l *configLoader) movePlace(option string, p place) {
	maps.DeleteFunc(l.places, func(path string, _ place) bool { return strings.HasPrefix(path, option+"[") })
	l.places[option] = p
}

// variableNames are the KEYSTILE_ variables of env, each once, in the order of their first appearance.
func variableNames(env []string) []string {
	var names []string
	seen := map[string]bool{}
	for _, entry := range env {
		name, _, found := strings.Cut(entry, "=")
		if found && strings.HasPrefix(name, envPrefix) && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// lookup is the value of a variable, empty when it is not set. The last entry counts, as in exec.Cmd.
func lookup(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, found := strings.CutPrefix(env[i], name+"="); found {
			return value
		}
	}
	return ""
}

// warnUnknown reports a variable that sets nothing. Orchestrators inject such variables (KEYSTILE_SERVICE_HOST), so it is no mistake.
func (l *configLoader) warnUnknown(name string, byVariable map[string]option) {
	if name == tokenVariable || name == addressVariable || name == caVariable || name == "KEYSTILE_CONFIG" {
		return
	}
	var known []string
	for _, variable := range slices.Sorted(maps.Keys(byVariable)) {
		known = append(known, strings.TrimPrefix(variable, envPrefix))
	}
	for _, header := range l.config.Proxy.Upstream.Headers {
		if header.Env == name {
			return
		}
	}
	hint := ""
	if like := nearest(strings.TrimPrefix(name, envPrefix), known); like != "" {
		hint = "; did you mean " + envPrefix + like + "?"
	}
	l.warnings = append(l.warnings, name+": unknown variable, ignored"+hint)
}
