package events

import (
	"embed"
	"io/fs"
)

//go:embed schemas
var schemas embed.FS

// Schemas holds a JSON Schema (draft 2020-12) for each type of event, by file name: the type's last two words with
// .schema.json, as in segment-change.v1.schema.json. That of dead letters describes their headers.
func Schemas() fs.FS {
	sub, err := fs.Sub(schemas, "schemas")
	if err != nil {
		panic(err) // the name is fixed at build time
	}
	return sub
}
