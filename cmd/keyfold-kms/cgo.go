//go:build cgo && !windows

package main

// pkcs11Built says whether this program knows PKCS#11.
const pkcs11Built = true
