// Package wycheproof runs the AES-GCM vectors of the Wycheproof project
// against aead and cmek. It is a module of its own, so that the vectors and
// the replace directive that they need stay out of the main one:
//
//	cd test/wycheproof && go test ./...
//
// go.sum holds the vectors' checksum. When the main module moves a dependency
// that both have, the go command asks for a go mod tidy here.
package wycheproof
