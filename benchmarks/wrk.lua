-- Sends the body in the file that WRK_BODY names; prints the result as one line of JSON.
-- WRK_ATTRIBUTES is the header that names a model.
-- With WRK_STATUSES set, statuses are counted (a call into Lua for every answer: used for overload only).
wrk.method = "POST"
local file = assert(io.open(os.getenv("WRK_BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = os.getenv("WRK_TYPE")
if os.getenv("WRK_ATTRIBUTES") then
  wrk.headers["X-Amzn-SageMaker-Custom-Attributes"] = os.getenv("WRK_ATTRIBUTES")
end

local threads = {}
function setup(thread)
  threads[#threads + 1] = thread
end

statuses = {}
if os.getenv("WRK_STATUSES") then
  function response(status)
    local key = tostring(status)
    statuses[key] = (statuses[key] or 0) + 1
  end
end

function done(summary, latency, requests)
  local e, counts = summary.errors, {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      counts[#counts + 1] = string.format('"%s": %d', status, count)
    end
  end
  io.write(string.format(
    '\nRESULT {"requests": %d, "elapsed_us": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}, "statuses": {%s}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout, table.concat(counts, ", ")))
end
