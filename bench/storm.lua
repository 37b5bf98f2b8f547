-- Sign-ups from 200 client addresses, as a proxy would pass them on, each with
-- an e-mail address of its own. See storm.sh.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

local n = 0
math.randomseed(os.time())
local run = math.random(1, 1000000000)

function request()
  n = n + 1
  wrk.headers["X-Forwarded-For"] = "10.0.0." .. (n % 200 + 1)
  return wrk.format(nil, nil, nil, '{"name": "Storm", "email": "s' .. run .. "-" .. n .. '@storm.dev"}')
end
