module github.com/keyfold/keyfold/test/wycheproof

go 1.26.0

// The vectors' module has no package to import, so its one tool stands for
// it: without a use of it, tidy would drop the requirement and its checksum.
tool github.com/c2sp/wycheproof/tools/vectorlint

require github.com/keyfold/keyfold v0.0.0-00010101000000-000000000000

require (
	github.com/c2sp/wycheproof v0.0.0-00010101000000-000000000000 // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/keyfold/keyfold => ../..

// The module declares the lower-case path, and its repository the other.
replace github.com/c2sp/wycheproof => github.com/C2SP/wycheproof v0.0.0-20250901140545-b51abcfb8daf
