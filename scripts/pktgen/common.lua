-- What the scripts beside this one share: who is who, a range of clients, and a trial.
-- Everything can be set in the environment; see README.md.

require "Pktgen"

local M = {}

local function setting(name, default)
  local value = os.getenv(name)
  if value == nil or value == "" then return default end
  return value
end

M.front = setting("FRONT", "0")                          -- Pktgen's port at the clients' side
M.back = setting("BACK", "1")                            -- its port at the servers' side
M.director_mac = setting("DIRECTOR_MAC")                 -- of the director's port at the clients' side
M.service = setting("SERVICE", "198.18.0.1")             -- the virtual service
M.service_port = tonumber(setting("SERVICE_PORT", "80"))
M.protocol = setting("PROTOCOL", "tcp")
M.size = tonumber(setting("SIZE", "64"))                 -- bytes of a frame, its FCS included
M.rate = tonumber(setting("RATE", "100"))                -- percent of the line
M.seconds = tonumber(setting("SECONDS", "10"))
M.first_client = { 198, 19, 0, 0 }
M.first_port = 1024
-- A range counts up addresses and ports side by side, each by itself: as many different clients come of it as the
-- least common multiple says. These have no factor in common.
M.addresses = tonumber(setting("ADDRESSES", "1009"))
M.ports = tonumber(setting("PORTS", "1000"))

assert(M.director_mac, "DIRECTOR_MAC: the MAC address of the director's port at the clients' side")
assert(M.size >= 64 and M.size <= 1518, "SIZE: 64 to 1518")
assert(M.addresses >= 1 and M.addresses <= 65536, "ADDRESSES: 1 to 65536")
assert(M.ports >= 1 and M.ports <= 64512, "PORTS: 1 to 64512")

-- A client's address by its number.
function M.client(number)
  local first = M.first_client
  return string.format("%d.%d.%d.%d", first[1], first[2], number // 256, number % 256)
end

local function of_range(set, first, last, step, none)
  set(M.front, "start", first)
  set(M.front, "min", first)
  set(M.front, "max", last)
  set(M.front, "inc", first == last and none or step)
end

-- All clients, of these ports.
function M.clients(first_port, last_port)
  local range = pktgen.range
  range.dst_mac(M.front, "start", M.director_mac)
  range.ip_proto(M.front, M.protocol)
  of_range(range.src_ip, M.client(0), M.client(M.addresses - 1), "0.0.0.1", "0.0.0.0")
  of_range(range.dst_ip, M.service, M.service, "0.0.0.0", "0.0.0.0")
  of_range(range.src_port, first_port, last_port, 1, 0)
  of_range(range.dst_port, M.service_port, M.service_port, 0, 0)
  of_range(range.pkt_size, M.size, M.size, 0, 0)
  pktgen.set_range(M.front, "on")
end

-- Opens a connection of each client, port by port: not in the order in which clients() meets them again, in which
-- they would lie in the director's table side by side.
function M.open()
  print(string.format("opening %d connections", M.addresses * M.ports))
  pktgen.set(M.front, "rate", 10)
  pktgen.set(M.front, "count", M.addresses)
  for port = M.first_port, M.first_port + M.ports - 1 do
    M.clients(port, port)
    pktgen.start(M.front)
    pktgen.delay(10)
    while pktgen.isSending(M.front)[tonumber(M.front)] == "y" do pktgen.delay(1) end
  end
  pktgen.set(M.front, "count", 0)
end

local function counters(port)
  return pktgen.portStats(port, "port")[tonumber(port)]
end

-- Sends what was set up, and prints what came back.
function M.trial(name)
  pktgen.set(M.front, "rate", M.rate)
  pktgen.clr()
  pktgen.start(M.front)
  pktgen.delay(M.seconds * 1000)
  pktgen.stop(M.front)
  pktgen.delay(1000)
  local sent, received = counters(M.front).opackets, counters(M.back).ipackets
  local lost = sent > 0 and (sent - received) / sent * 100 or 0
  print(string.format("%-12s sent %8.3f M/s, came back %8.3f M/s, lost %.4f %%",
    name, sent / M.seconds / 1e6, received / M.seconds / 1e6, lost))
end

pktgen.screen("off")
pktgen.set(M.front .. "," .. M.back, "count", 0)

return M
