// Package tools is the folder of the repository's own checks: the programs testrun and vuln, the scripts that the
// Makefile calls, and the lists of what these let pass. It is a module of its own, so that nothing here, and none of the
// pinned tools in its go.mod, weighs on the product. It holds no code but tests of the scripts and of conventions.
package tools
