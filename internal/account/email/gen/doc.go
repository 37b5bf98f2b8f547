// Command gen writes disposable.txt, the vendored list of disposable e-mail
// domains, into the working directory. Run it by `go generate` in the package
// above; it needs npm. Running it again changes nothing.
package main
