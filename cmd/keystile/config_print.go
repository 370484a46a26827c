package main

import (
	"io"

	"go.yaml.in/yaml/v4"
)

// printConfig writes the effective configuration as YAML that loadConfig accepts. There is no secret in it: secrets are references to files
// and variables here, and a config that passed its check has none in its URLs or headers.
func printConfig(w io.Writer, c config) error {
	dumper, err := yaml.NewDumper(w, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return err
	}
	if err := dumper.Dump(c); err != nil {
		return err
	}
	return dumper.Close()
}
