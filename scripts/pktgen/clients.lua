-- Established connections of a range of clients, at one size of frames.
package.path = package.path .. ";scripts/pktgen/?.lua"
local common = require "common"

common.open()
common.clients(common.first_port, common.first_port + common.ports - 1)
common.trial(common.size .. " bytes")
pktgen.quit()
