// Package settings finds each setting's value and remembers where from.
//
// A setting is declared once, with its name, default, help and a function
// that reads it; the flag, the variable and the key of the YAML file follow
// from the name. A flag beats a variable, a variable the file, the file the
// default. Whatever is not declared is an error that names the nearest that
// is, and all errors are told at once. What settings mean is not known here.
package settings
