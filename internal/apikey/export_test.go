package apikey

// Checksum is for the tests: a key's last six characters.
var Checksum = checksum
