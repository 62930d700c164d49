//! The remedy for a refusal: the command an operator would look up.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::Refusal;

/// What would make EAL start with these arguments.
pub(crate) fn start(arguments: &[String], refusal: &Refusal) -> Option<String> {
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if refusal.mentions("another primary process") {
        return Some(
            "stop the other DPDK process, or give this one a name of its own: --file-prefix NAME".to_owned(),
        );
    }
    if has("--no-huge") && has("--in-memory") {
        return Some("EAL refuses --no-huge and --in-memory together: leave --in-memory out".to_owned());
    }
    if refusal.mentions("unrecognized option") || refusal.mentions("invalid option") {
        return Some("`dpdk-testpmd --help` lists the options of EAL".to_owned());
    }
    if refusal.mentions("runtime directory") {
        return be_root().or_else(|| {
            Some("--file-prefix takes a plain name, and /var/run/dpdk must be writable".to_owned())
        });
    }
    if refusal.mentions("lcore") || refusal.mentions("core list") || refusal.mentions("coremask") {
        return Some(
            "name CPUs this process may use (`nproc`, `lscpu -e`), as -l 0-1 or --lcores 0@0,1@1".to_owned(),
        );
    }
    if refusal.mentions("hugepage") || refusal.mentions("cannot init memory") {
        if has("--no-huge") {
            return Some("ask for another amount of memory, in megabytes: -m 512".to_owned());
        }
        return Some(
            "reserve huge pages and mount them: `echo 512 > /proc/sys/vm/nr_hugepages` and \
             `mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages` \
             (or do without, slower: --no-huge -m 512)"
                .to_owned(),
        );
    }
    if refusal.mentions("device") {
        return Some(
            "look at the devices in the arguments (--vdev, -a): drivers are plugins, \
             `ls $(pkg-config --variable=driverdir libdpdk)` shows which there are"
                .to_owned(),
        );
    }
    be_root()
}

/// What would make the device of `devargs` appear.
pub(crate) fn attach(devargs: &str, refusal: &Refusal) -> Option<String> {
    if let Some(address) = pci_address(devargs) {
        return Some(pci(&address));
    }
    let name = devargs.split(',').next().unwrap_or(devargs);
    let argument = |key: &str| {
        devargs.split(',').find_map(|part| part.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')))
    };
    if refusal.mentions("failed to parse device") {
        return Some(format!(
            "no driver takes a device named {name}: a driver's name and a number (net_tap0, net_af_packet1); \
             drivers are plugins, `ls $(pkg-config --variable=driverdir libdpdk)` shows which there are"
        ));
    }
    if refusal.mentions("multi-file segments") {
        return Some("zero-copy wants EAL's memory in one file: give EAL --single-file-segments".to_owned());
    }
    let is_tap = name.starts_with("net_tap");
    let makes_its_own = is_tap || name.starts_with("net_vhost");
    if let Some(interface) = argument("iface").filter(|name| !makes_its_own && !interface_exists(name)) {
        return Some(format!(
            "interface {interface} does not exist in this network namespace: `ip link show {interface}`"
        ));
    }
    if is_tap && !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun is missing: `modprobe tun`".to_owned());
    }
    for key in ["path", "rx_pcap"] {
        if let Some(path) = argument(key).filter(|path| !Path::new(path).exists()) {
            let module = if path == "/dev/vhost-net" { ": `modprobe vhost_net`" } else { "" };
            return Some(format!("{path} does not exist{module}"));
        }
    }
    be_root().or_else(|| {
        Some(format!(
            "look up the arguments of {name} in the Network Interface Controller Drivers guide of DPDK"
        ))
    })
}

fn pci(address: &str) -> String {
    let device = Path::new("/sys/bus/pci/devices").join(address);
    if !device.exists() {
        return format!("there is no PCI device {address}: `dpdk-devbind.py --status-dev net` lists them");
    }
    let driver = fs::read_link(device.join("driver")).ok();
    match driver.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()) {
        Some("vfio-pci" | "igb_uio" | "uio_pci_generic") => format!(
            "{address} is bound to a DPDK driver; look at `dmesg`, at the permissions of /dev/vfio/* and \
             whether --no-pci or -b keeps it away"
        ),
        // mlx4 and mlx5 work through the kernel's own driver.
        Some(driver) if !driver.starts_with("mlx") => format!(
            "{address} belongs to the kernel driver {driver}: `dpdk-devbind.py -b vfio-pci {address}` \
             (its interface must be down; take care that it is not the one you are logged in over)"
        ),
        Some(driver) => {
            format!("{address} stays with its kernel driver {driver}; look at `dmesg`, and at rdma-core")
        }
        None => format!("bind it: `modprobe vfio-pci && dpdk-devbind.py -b vfio-pci {address}`"),
    }
}

/// The full address, domain and all, if `devargs` begins with a PCI address.
pub(crate) fn pci_address(devargs: &str) -> Option<String> {
    let name = devargs.split(',').next()?;
    let name = name.strip_prefix("pci:").unwrap_or(name);
    let (front, function) = name.rsplit_once('.')?;
    let hex = |text: &str, longest: usize| {
        !text.is_empty() && text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut fields = front.rsplit(':');
    let (device, bus) = (fields.next()?, fields.next()?);
    let domain = fields.next().unwrap_or("0000");
    let whole =
        fields.next().is_none() && hex(function, 1) && hex(device, 2) && hex(bus, 2) && hex(domain, 8);
    whole.then(|| format!("{domain:0>4}:{bus:0>2}:{device:0>2}.{function}").to_lowercase())
}

/// /proc/self/net is this process's network namespace; /sys may be another's.
fn interface_exists(name: &str) -> bool {
    let Ok(table) = fs::read_to_string("/proc/self/net/dev") else { return true };
    table.lines().filter_map(|line| line.split_once(':')).any(|(interface, _)| interface.trim() == name)
}

fn be_root() -> Option<String> {
    // /proc/self belongs to the effective user.
    let user = fs::metadata("/proc/self").ok()?.uid();
    (user != 0).then(|| {
        format!(
            "this process runs as user {user}: run it as root, or give it CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK \
             and access to /dev/hugepages and /var/run/dpdk (XDG_RUNTIME_DIR)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(errno: i32, said: &str) -> Refusal {
        Refusal::with(Some(errno), vec![said.to_owned()])
    }

    #[test]
    fn pci_addresses_are_told_from_names() {
        assert_eq!(pci_address("0000:03:00.0").as_deref(), Some("0000:03:00.0"));
        assert_eq!(pci_address("3:0.1,representor=0").as_deref(), Some("0000:03:00.1"));
        assert_eq!(pci_address("pci:0001:AF:1f.7").as_deref(), Some("0001:af:1f.7"));
        for name in
            ["net_tap0", "net_pcap0,rx_pcap=/tmp/a:b.pcap", "eth0.100", "a.b", "::.0", "00:00:00:00.0"]
        {
            assert_eq!(pci_address(name), None, "{name}");
        }
    }

    #[test]
    fn each_refusal_of_eal_has_its_remedy() {
        let remedy = |arguments: &[&str], said| {
            let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
            start(&arguments, &refusal(1, said)).unwrap_or_default()
        };
        assert!(remedy(&[], "EAL: FATAL: Cannot get hugepage information.").contains("nr_hugepages"));
        assert!(remedy(&["--no-huge"], "EAL: Cannot init memory").contains("-m"));
        assert!(remedy(&[], "EAL: Is another primary process running?").contains("--file-prefix"));
        assert!(remedy(&[], "EAL: invalid core list syntax").contains("lscpu"));
        assert!(remedy(&["--no-huge", "--in-memory"], "").contains("leave --in-memory out"));
        assert!(remedy(&[], "EAL: unrecognized option '--frobnicate'").contains("--help"));
    }

    #[test]
    fn a_missing_interface_or_pci_device_is_named() {
        let missing = attach("net_af_packet0,iface=nowhere0", &refusal(1, "")).unwrap_or_default();
        assert!(missing.contains("`ip link show nowhere0`"), "{missing}");
        let missing = attach("net_pcap0,rx_pcap=/nowhere/x.pcap", &refusal(1, "")).unwrap_or_default();
        assert_eq!(missing, "/nowhere/x.pcap does not exist");
        let missing =
            attach("eth0", &refusal(14, "EAL: failed to parse device \"eth0\"")).unwrap_or_default();
        assert!(missing.contains("no driver takes a device named eth0"), "{missing}");
        let segments = "memif_set_zc(): Zero-copy doesn't support multi-file segments.";
        let missing = attach("net_memif0,zero-copy=yes", &refusal(95, segments)).unwrap_or_default();
        assert!(missing.contains("--single-file-segments"), "{missing}");
        let missing = attach("ffff:ff:1f.7", &refusal(19, "")).unwrap_or_default();
        assert!(missing.contains("ffff:ff:1f.7") && missing.contains("dpdk-devbind.py"), "{missing}");
    }
}
