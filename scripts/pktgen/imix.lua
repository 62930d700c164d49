-- The simple IMIX: of twelve frames seven have 64 bytes, four 594 and one 1518. A sequence holds sixteen frames at
-- most, so there are twelve clients: this is about the sizes.
package.path = package.path .. ";scripts/pktgen/?.lua"
local common = require "common"

local sizes = { 64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594 }
local own_mac = assert(os.getenv("FRONT_MAC"), "FRONT_MAC: the MAC address of Pktgen's port at the clients' side")
for number, size in ipairs(sizes) do
  pktgen.seqTable(number - 1, common.front, {
    ["eth_dst_addr"] = common.director_mac,
    ["eth_src_addr"] = own_mac,
    ["ip_dst_addr"] = common.service,
    ["ip_src_addr"] = common.client(number - 1) .. "/16",
    ["sport"] = common.first_port,
    ["dport"] = common.service_port,
    ["ethType"] = "ipv4",
    ["ipProto"] = common.protocol,
    ["vlanid"] = 1,
    ["pktSize"] = size,
    ["gtpu_teid"] = 0,
  })
end
pktgen.set(common.front, "seq_cnt", #sizes)
common.trial("IMIX")
pktgen.quit()
