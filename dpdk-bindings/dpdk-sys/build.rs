//! Binds the libdpdk that pkg-config finds: bindgen for the declarations, a C
//! compiler for the wrappers bindgen writes around the inline functions.

use std::env;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The oldest DPDK whose API this crate binds.
const LIBDPDK_AT_LEAST: &str = "22.11";

/// Functions the safe layer calls. What is not listed is not bound.
const FUNCTIONS: &[&str] = &[
    "dpdk_errno",
    "dpdk_link_get_nowait",
    "fopencookie",
    "setvbuf",
    "rte_dev_(name|probe|remove)",
    "rte_eal_(init|cleanup|process_type|remote_launch|get_lcore_state)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|close|configure|info_get|socket_id|start|stop)",
    "rte_eth_dev_(default_mac_addr_set|get_mtu|set_mtu|rss_reta_query|rss_reta_update)",
    "rte_eth_find_next_owned_by",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_(enable|disable|get)",
    "rte_eth_(rx|tx)_(burst|queue_setup)",
    "rte_eth_stats_(get|reset)",
    "rte_eth_xstats_(get|get_names)",
    "rte_get_(main_lcore|next_lcore|tsc_hz)",
    "rte_hash_(add_key_data|create|del_key|free|lookup_bulk_data|rcu_qsbr_add)",
    "rte_lcore_to_socket_id",
    "rte_log_cur_msg_loglevel",
    "rte_mempool_(avail_count|in_use_count)",
    "rte_openlog_stream",
    "rte_pktmbuf_(alloc|alloc_bulk|free|free_bulk|pool_create)",
    "rte_rcu_qsbr_(get_memsize|init|quiescent|thread_offline|thread_online|thread_register)",
    "rte_rdtsc",
    "rte_strerror",
    "rte_version",
];

/// Types and constants the safe layer names itself; what the functions use
/// comes along.
const TYPES: &[&str] = &["rte_eth_rss_reta_entry64", "rte_proc_type_t"];
const VARIABLES: &[&str] = &[
    "DPDK_.*",
    "_IO[FLN]BF",
    "RTE_ETHER_ADDR_LEN",
    "RTE_ETH_(MQ_RX_NONE|MQ_RX_RSS|SPEED_NUM_NONE|SPEED_NUM_UNKNOWN)",
    "RTE_ETH_NAME_MAX_LEN",
    "RTE_ETH_RETA_GROUP_SIZE",
    "RTE_ETH_XSTATS_NAME_SIZE",
    "RTE_HASH_(EXTRA_FLAGS_RW_CONCURRENCY_LF|LOOKUP_BULK_MAX|NAMESIZE|QSBR_MODE_DQ)",
    "RTE_LOG_(EMERG|ALERT|CRIT|ERR|WARNING|NOTICE|INFO|DEBUG)",
    "RTE_MAX_(ETHPORTS|LCORE)",
    "RTE_MBUF_L[23]_LEN_(BITS|OFS)",
    "RTE_MEMPOOL_CACHE_MAX_SIZE",
    "RTE_PKTMBUF_HEADROOM",
    "SOCKET_ID_ANY",
    "std(err|out)",
];

/// Structs nothing looks into: the mbuf, read by offset (`wrapper.h` says why),
/// and packed structs with aligned members, which Rust cannot express.
const OPAQUE: &[&str] = &[
    "rte_mbuf",
    "rte_rcu_qsbr",
    "rte_arp_ipv4",
    "rte_arp_hdr",
    "rte_l2tpv2_combined_msg_hdr",
    "rte_gtp_psc_generic_hdr",
];
const BLOCKED: &[&str] = &["rte_gtp_psc_type[01]_hdr"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: dpdk-sys: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=wrapper.h");

    let libdpdk =
        pkg_config::Config::new().atleast_version(LIBDPDK_AT_LEAST).probe("libdpdk").map_err(|error| {
            format!(
                "libdpdk {LIBDPDK_AT_LEAST} or newer was not found by pkg-config.\n\
                 On Debian and Ubuntu: apt install libdpdk-dev dpdk pkg-config\n\
                 (a DPDK of your own: set PKG_CONFIG_PATH to the directory of its libdpdk.pc)\n\n{error}"
            )
        })?;

    let mut flags = compiler_flags()?;
    flags.extend(libdpdk.include_paths.iter().map(|path| format!("-I{}", path.display())));

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let wrappers = out.join("inline.c");
    bind(&flags, &out.join("bindings.rs"), &wrappers)?;
    compile(&flags, &wrappers)
}

/// The flags of libdpdk.pc that are no include path (on x86
/// `-include rte_config.h -march=…`). The pkg-config crate does not return them,
/// and without them the inline functions compile differently, or not at all.
fn compiler_flags() -> Result<Vec<String>, Box<dyn Error>> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(&program).args(["--cflags-only-other", "libdpdk"]).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} --cflags-only-other libdpdk: {said}", program.to_string_lossy()).into());
    }
    Ok(String::from_utf8(output.stdout)?.split_whitespace().map(str::to_owned).collect())
}

fn bind(flags: &[String], bindings: &Path, wrappers: &Path) -> Result<(), Box<dyn Error>> {
    let builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(flags)
        .wrap_static_fns(true)
        .wrap_static_fns_path(wrappers)
        .wrap_static_fns_suffix("__inline")
        .allowlist_function(FUNCTIONS.join("|"))
        .allowlist_type(TYPES.join("|"))
        .allowlist_var(VARIABLES.join("|"))
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_debug(false)
        .derive_default(true)
        .generate_comments(false)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    let builder = OPAQUE.iter().fold(builder, bindgen::Builder::opaque_type);
    let builder = BLOCKED.iter().fold(builder, bindgen::Builder::blocklist_type);

    // bindgen panics where it cannot load libclang.
    let generated = catch_unwind(AssertUnwindSafe(|| builder.generate())).map_err(|_| {
        "bindgen could not load libclang (its message stands above).\n\
         On Debian and Ubuntu: apt install libclang-dev\n\
         (another place: set LIBCLANG_PATH to the directory of libclang.so)"
    })?;
    generated
        .map_err(|error| {
            format!(
                "the DPDK headers could not be read: {error}\n\
                 If a compiler header such as stddef.h is missing: apt install libclang-dev clang"
            )
        })?
        .write_to_file(bindings)?;
    Ok(())
}

fn compile(flags: &[String], wrappers: &Path) -> Result<(), Box<dyn Error>> {
    let manifest = env::var("CARGO_MANIFEST_DIR")?;
    let mut compiler = cc::Build::new();
    compiler.file(wrappers).include(&manifest).warnings(false).opt_level(3);
    // One flag for `-include FILE`: cc may sort or drop neither half alone.
    for flag in flags {
        compiler.flag(flag);
    }
    compiler.try_compile("dpdk_inline").map_err(|error| {
        format!(
            "the wrappers of DPDK's inline functions did not compile: {error}\n\
             If no C compiler is installed: apt install gcc libc6-dev"
        )
        .into()
    })
}
