// Renders a template of the Helm chart: render FILE, with the values as JSON on standard input. It has those functions
// of Helm that the chart uses; everything else is Go's own.
package main

import (
	"encoding/json"
	"errors"
	"log"
	"os"
	"path/filepath"
	"text/template"
)

func toJson(value interface{}) (string, error) {
	text, err := json.Marshal(value)
	return string(text), err
}

func fail(words string) (string, error) {
	return "", errors.New(words)
}

func main() {
	log.SetFlags(0)
	// Helm reads numbers of values.yaml so, too.
	var values map[string]interface{}
	if err := json.NewDecoder(os.Stdin).Decode(&values); err != nil {
		log.Fatal(err)
	}
	file := os.Args[1]
	functions := template.FuncMap{"toJson": toJson, "fail": fail}
	parsed, err := template.New(filepath.Base(file)).Funcs(functions).ParseFiles(file)
	if err != nil {
		log.Fatal(err)
	}
	if err := parsed.Option("missingkey=error").Execute(os.Stdout, values); err != nil {
		log.Fatal(err)
	}
}
