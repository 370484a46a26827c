package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"time"
)

// schema is the part of JSON Schema (draft 2020-12) that the configuration needs.
type schema struct {
	Dialect     string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        any                `json:"type,omitempty"` // a name or a list of names
	Enum        []string           `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Minimum     *float64           `json:"minimum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Additional  any                `json:"additionalProperties,omitempty"` // false or a *schema
	OneOf       []*schema          `json:"oneOf,omitempty"`
	Default     any                `json:"default,omitempty"`
}

const (
	durationPattern = `^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
	sizePattern     = `^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$`
)

// writeSchema writes the JSON Schema of the configuration file, for editors. It is made from the declaration of config: names, descriptions,
// defaults and bounds cannot differ from what loadConfig does. What needs more than one option to judge is not in it.
func writeSchema(w io.Writer) error {
	c := defaultConfig()
	root, err := sectionSchema(reflect.ValueOf(c))
	if err != nil {
		return err
	}
	root.Dialect = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "Keystile configuration"
	root.Description = "Options of the authenticating reverse proxy Keystile."
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(root)
}

func sectionSchema(section reflect.Value) (*schema, error) {
	s := &schema{Type: []string{"object", "null"}, Properties: map[string]*schema{}, Additional: false}
	for i, field := range reflect.VisibleFields(section.Type()) {
		value := section.Field(i)
		property, err := valueSchema(option{field: field, value: value})
		if err != nil {
			return nil, err
		}
		property.Description = field.Tag.Get("doc")
		s.Properties[field.Tag.Get("yaml")] = property
	}
	return s, nil
}

func valueSchema(o option) (*schema, error) {
	if isSection(o.field.Type) {
		return sectionSchema(o.value)
	}
	s := &schema{Default: o.value.Interface()}
	switch value := o.value.Interface().(type) {
	case string:
		s.Type, s.Enum = "string", o.choices()
	case bool:
		s.Type = "boolean"
	case int:
		s.Type, s.Minimum = "integer", o.schemaMinimum()
	case float64:
		s.Type, s.Minimum = "number", o.schemaMinimum()
	case time.Duration:
		s.Type, s.Pattern, s.Default = "string", durationPattern, value.String()
	case size:
		s.Type, s.Pattern, s.Minimum, s.Default = []string{"string", "integer"}, sizePattern, o.schemaMinimum(), value.String()
	case []string:
		s.Type, s.Items = []string{"array", "null"}, &schema{Type: "string", Enum: o.choices()}
	case map[string]headerSource:
		s.Type, s.Additional = []string{"object", "null"}, headerSchema()
	default:
		return nil, fmt.Errorf("no JSON Schema for options of type %s", o.field.Type)
	}
	return s, nil
}

func (o option) schemaMinimum() *float64 {
	low, bounded := o.minimum()
	if !bounded {
		return nil
	}
	number := numberOf(low)
	return &number
}

func headerSchema() *schema {
	reference := func(name, description string) *schema {
		text := &schema{Type: "string", Description: description}
		return &schema{Type: "object", Properties: map[string]*schema{name: text}, Required: []string{name}, Additional: false}
	}
	return &schema{OneOf: []*schema{
		{Type: []string{"string", "number", "boolean"}, Description: "The value itself, when it is not a secret."},
		reference("file", "File that holds the value; nobody but its owner and group may read it."),
		reference("env", "Environment variable that holds the value."),
	}}
}
