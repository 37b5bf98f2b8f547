// Command redis drives go-redis/redis_rate as bench/limits.go drives our
// stores: a yardstick, and nothing that Gatehouse needs. It is a module of its
// own, so that its dependencies are not ours.
package main
