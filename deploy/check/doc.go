// Package check holds what is in deploy/ against the programs that it runs and
// against what its formats allow: nothing is deployed by the tests, so that they
// need no cluster and no container engine.
//
// Each kind of file is read by the parser of the program that it is for (BuildKit,
// Compose, Kubernetes' own types, haproxy, systemd-analyze), strictly, and then
// looked at for what we promise of it: which rights a process has, who reaches the
// keys, whether every command, flag and variable is one of the program. Each check
// is seen failing on a copy of the file that is broken on purpose.
package check
