//! Files of frames in libpcap's format (draft-ietf-opsawg-pcap), as `net_pcap` reads them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The first bytes: byte order, and that times are in microseconds.
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: (u16, u16) = (2, 4);
/// The longest frame a file may hold.
const SNAP_LENGTH: u32 = 65_535;
/// The frames are Ethernet's.
const LINKTYPE_ETHERNET: u32 = 1;

/// Writes `frames` as a file of the format. All were caught at the same time, the epoch.
///
/// # Errors
/// The file cannot be written.
pub fn write<F: AsRef<[u8]>>(path: &Path, frames: impl IntoIterator<Item = F>) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    write_to(&mut file, frames)?;
    file.flush()
}

fn write_to<F: AsRef<[u8]>>(out: &mut impl Write, frames: impl IntoIterator<Item = F>) -> io::Result<()> {
    out.write_all(&MAGIC.to_ne_bytes())?;
    out.write_all(&VERSION.0.to_ne_bytes())?;
    out.write_all(&VERSION.1.to_ne_bytes())?;
    for word in [0, 0, SNAP_LENGTH, LINKTYPE_ETHERNET] {
        out.write_all(&word.to_ne_bytes())?;
    }
    for frame in frames {
        let frame = frame.as_ref();
        let length = u32::try_from(frame.len())
            .ok()
            .filter(|length| *length <= SNAP_LENGTH)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a frame is too long for the file"))?;
        for word in [0, 0, length, length] {
            out.write_all(&word.to_ne_bytes())?;
        }
        out.write_all(frame)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_to_the_byte() {
        let mut file = Vec::new();
        write_to(&mut file, [&[1_u8, 2, 3][..], &[4, 5]]).unwrap();
        let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(16), word(20)), (0xa1b2_c3d4, 65_535, 1));
        assert_eq!(u16::from_ne_bytes([file[4], file[5]]), 2);
        assert_eq!(u16::from_ne_bytes([file[6], file[7]]), 4);
        assert_eq!((word(24), word(28), word(32), word(36)), (0, 0, 3, 3));
        assert_eq!(file[40..43], [1, 2, 3]);
        assert_eq!((word(51), word(55)), (2, 2));
        assert_eq!(file[59..], [4, 5]);
    }

    #[test]
    fn a_frame_too_long_for_the_file() {
        assert!(write_to(&mut Vec::new(), [vec![0; 65_536]]).is_err());
    }
}
