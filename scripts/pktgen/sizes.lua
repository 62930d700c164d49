-- Established connections of a range of clients, at each size of RFC 2544, section 9.1.
package.path = package.path .. ";scripts/pktgen/?.lua"
local common = require "common"

common.open()
for _, size in ipairs({ 64, 128, 256, 512, 1024, 1280, 1518 }) do
  common.size = size
  common.clients(common.first_port, common.first_port + common.ports - 1)
  common.trial(size .. " bytes")
end
pktgen.quit()
