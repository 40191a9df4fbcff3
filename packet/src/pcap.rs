//! Captures: reading classic pcap (either byte order, micro- or nanoseconds) and pcapng, writing classic pcap.
//!
//! Invariant: no packet is left out in silence; whatever cannot be read ends the capture with an error that says
//! where. Reading borrows from the bytes of the file and keeps nothing but one entry for each pcapng interface.
//! Deliberately absent: link types other than Ethernet, the six-word "modified" pcap, name resolution, comments.
//!
//! Source: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

use pcap_parser::{
    Block, LegacyPcapBlock, OptionCode, PcapHeader, PcapNGOption, pcap, pcapng, traits::PcapNGPacketBlock,
};
use std::{io, time::Duration};

/// No frame is longer: what libpcap takes for the largest snapshot length.
pub const LONGEST_FRAME: u32 = 262_144;

/// Ethernet in the registry of link types.
const ETHERNET: u32 = 1;
/// The lower part of a classic link type; the upper bits tell of frame check sequences.
const LINK_TYPE_MASK: u32 = 0x03ff_ffff;

/// Why a capture cannot be read. Positions count bytes from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcapError {
    /// Neither kind of capture.
    #[error("not a pcap or pcapng file: it begins with `{found}`")]
    NotACapture {
        /// The first bytes, in hexadecimal.
        found: String,
    },
    /// The file ends inside something.
    #[error("byte {position}: the file ends in the middle of a {what}: {missing} bytes are missing")]
    Truncated {
        /// Where the thing begins.
        position: usize,
        /// What it is.
        what: &'static str,
        /// How many bytes it still needs.
        missing: usize,
    },
    /// A length that cannot be.
    #[error("byte {position}: a {what} cannot be `{length}` bytes long")]
    BadLength {
        /// Where the thing begins.
        position: usize,
        /// What it is.
        what: &'static str,
        /// The length it claims.
        length: u32,
    },
    /// A block or record that contradicts itself.
    #[error("byte {position}: malformed {what}")]
    Malformed {
        /// Where it begins.
        position: usize,
        /// What it is.
        what: &'static str,
    },
    /// Packets of another kind of network.
    #[error("byte {position}: link type `{found}` is not Ethernet (1)")]
    LinkType {
        /// Where the header or the packet begins.
        position: usize,
        /// Number in the registry of link types.
        found: u32,
    },
    /// A packet of an interface that was not described before it.
    #[error("byte {position}: interface `{interface}` has no description")]
    NoInterface {
        /// Where the packet begins.
        position: usize,
        /// The interface's number.
        interface: u32,
    },
}

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Since the epoch; zero where a capture does not say.
    pub timestamp: Duration,
    /// The frame, as far as it was captured.
    pub frame: &'a [u8],
    /// How long it was on the wire.
    pub original_len: u32,
    /// Where the record begins in the file.
    pub position: usize,
}

impl Record<'_> {
    /// Whether the capture kept only the beginning of the frame.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.frame.len() < self.original_len as usize
    }
}

/// The frames of a capture, in order; ends after the first error.
#[derive(Debug)]
pub struct Records<'a> {
    data: &'a [u8],
    position: usize,
    format: Format,
    failed: bool,
}

#[derive(Debug)]
enum Format {
    Classic { big_endian: bool, nanoseconds: bool },
    Ng { big_endian: bool, interfaces: Vec<Interface> },
}

/// What a pcapng file says of an interface.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u32,
    snaplen: u32,
    resolution: u8,
    offset: i64,
}

const SECTION: u32 = 0x0a0d_0d0a;
/// What a section header says of its byte order.
const ORDER: u32 = 0x1a2b_3c4d;
const CLASSIC_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const CLASSIC: &str = "pcap header";
const RECORD: &str = "packet record";
const BLOCK: &str = "pcapng block";

/// Opens the bytes of a capture file.
///
/// # Errors
/// If the bytes are no capture, or one of another network than Ethernet.
pub fn read(data: &[u8]) -> Result<Records<'_>, PcapError> {
    let magic = data.first_chunk::<4>().copied().map(u32::from_le_bytes);
    let (format, position) = match magic {
        Some(SECTION) => (Format::Ng { big_endian: false, interfaces: Vec::new() }, 0),
        Some(0xa1b2_c3d4 | 0xa1b2_3c4d | 0xd4c3_b2a1 | 0x4d3c_b2a1) => (classic(data)?, CLASSIC_HEADER),
        _ => {
            let found = data.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            return Err(PcapError::NotACapture { found });
        }
    };
    Ok(Records { data, position, format, failed: false })
}

fn classic(data: &[u8]) -> Result<Format, PcapError> {
    let missing = CLASSIC_HEADER.saturating_sub(data.len());
    let Ok((_, header)) = pcap::parse_pcap_header(data) else {
        return Err(PcapError::Truncated { position: 0, what: CLASSIC, missing });
    };
    let PcapHeader { version_major: 2, .. } = header else {
        return Err(PcapError::Malformed { position: 0, what: CLASSIC });
    };
    let found = header.network.0 as u32 & LINK_TYPE_MASK;
    if found != ETHERNET {
        return Err(PcapError::LinkType { position: 0, found });
    }
    Ok(Format::Classic { big_endian: header.is_bigendian(), nanoseconds: header.is_nanosecond_precision() })
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, PcapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.position >= self.data.len() {
            return None;
        }
        let found = match self.format {
            Format::Classic { big_endian, nanoseconds } => self.record(big_endian, nanoseconds).map(Some),
            Format::Ng { .. } => self.packet(),
        };
        self.failed = found.is_err();
        found.transpose()
    }
}

impl<'a> Records<'a> {
    fn rest(&self) -> &'a [u8] {
        self.data.get(self.position..).unwrap_or_default()
    }

    /// A 32-bit number at an offset from the current position.
    fn number(&self, offset: usize, big_endian: bool) -> Option<u32> {
        let bytes = *self.rest().get(offset..)?.first_chunk()?;
        Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The next `length` bytes, if the file has them.
    fn whole(&self, length: usize, what: &'static str) -> Result<&'a [u8], PcapError> {
        let rest = self.rest();
        let missing = length.saturating_sub(rest.len());
        rest.get(..length).ok_or(PcapError::Truncated { position: self.position, what, missing })
    }

    fn record(&mut self, big_endian: bool, nanoseconds: bool) -> Result<Record<'a>, PcapError> {
        let position = self.position;
        self.whole(RECORD_HEADER, RECORD)?;
        let length = self.number(8, big_endian).unwrap_or(0);
        if length > LONGEST_FRAME {
            return Err(PcapError::BadLength { position, what: RECORD, length });
        }
        let bytes = self.whole(RECORD_HEADER + length as usize, RECORD)?;
        let parsed =
            if big_endian { pcap::parse_pcap_frame_be(bytes) } else { pcap::parse_pcap_frame(bytes) };
        let Ok((_, LegacyPcapBlock { ts_sec, ts_usec, origlen, data, .. })) = parsed else {
            return Err(PcapError::Malformed { position, what: RECORD });
        };
        self.position += bytes.len();
        let fraction = u64::from(ts_usec);
        let fraction =
            if nanoseconds { Duration::from_nanos(fraction) } else { Duration::from_micros(fraction) };
        let timestamp = Duration::from_secs(u64::from(ts_sec)) + fraction;
        Ok(Record { timestamp, frame: data, original_len: origlen, position })
    }

    /// The next packet of a pcapng file; blocks of other kinds are passed over.
    fn packet(&mut self) -> Result<Option<Record<'a>>, PcapError> {
        while self.position < self.data.len() {
            let position = self.position;
            let block = self.block()?;
            if let Some(record) = self.take(block, position)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The next block, whatever it is.
    fn block(&mut self) -> Result<Block<'a>, PcapError> {
        let position = self.position;
        self.whole(12, BLOCK)?;
        let big_endian = self.byte_order()?;
        let length = self.number(4, big_endian).unwrap_or(0);
        if length < 12 || !length.is_multiple_of(4) {
            return Err(PcapError::BadLength { position, what: BLOCK, length });
        }
        let bytes = self.whole(length as usize, BLOCK)?;
        let parsed = if big_endian { pcapng::parse_block_be(bytes) } else { pcapng::parse_block_le(bytes) };
        let Ok((_, block)) = parsed else { return Err(PcapError::Malformed { position, what: BLOCK }) };
        if self.number(length as usize - 4, big_endian) != Some(length) {
            return Err(PcapError::Malformed { position, what: BLOCK });
        }
        self.position += length as usize;
        Ok(block)
    }

    /// The byte order of the block at the current position. A section header sets it, and forgets the interfaces.
    fn byte_order(&mut self) -> Result<bool, PcapError> {
        let malformed = PcapError::Malformed { position: self.position, what: "pcapng section header" };
        let begins_section = self.number(0, false) == Some(SECTION);
        let mark = self.number(8, true);
        let Format::Ng { big_endian, interfaces } = &mut self.format else { return Err(malformed) };
        if begins_section {
            *big_endian = match mark {
                Some(ORDER) => true,
                Some(mark) if mark == ORDER.swap_bytes() => false,
                _ => return Err(malformed),
            };
            interfaces.clear();
        }
        Ok(*big_endian)
    }

    /// Notes an interface, or makes a record of a packet.
    fn take(&mut self, block: Block<'a>, position: usize) -> Result<Option<Record<'a>>, PcapError> {
        let Format::Ng { big_endian, interfaces } = &mut self.format else { return Ok(None) };
        match block {
            Block::InterfaceDescription(found) => {
                interfaces.push(Interface {
                    link_type: found.linktype.0 as u32,
                    snaplen: found.snaplen,
                    resolution: found.if_tsresol,
                    offset: time_offset(&found.options, *big_endian),
                });
                Ok(None)
            }
            Block::EnhancedPacket(found) => {
                let interface = ethernet(interfaces, found.if_id, position)?;
                let ticks = u64::from(found.ts_high) << 32 | u64::from(found.ts_low);
                Ok(Some(Record {
                    timestamp: interface.time(ticks),
                    frame: cut(found.data, found.caplen, position)?,
                    original_len: found.orig_len(),
                    position,
                }))
            }
            Block::SimplePacket(found) => {
                let interface = ethernet(interfaces, 0, position)?;
                let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
                Ok(Some(Record {
                    timestamp: Duration::ZERO,
                    frame: cut(found.data, found.origlen.min(limit), position)?,
                    original_len: found.origlen,
                    position,
                }))
            }
            Block::Unknown(found) if is_obsolete_packet(found.block_type) => {
                Err(PcapError::Malformed { position, what: "packet: block type 2 is obsolete" })
            }
            _ => Ok(None),
        }
    }
}

/// The packet block of drafts before 2009, in either byte order: not read, and not passed over in silence.
const fn is_obsolete_packet(block_type: u32) -> bool {
    matches!(block_type, 0x2 | 0x0200_0000)
}

/// The first `length` bytes of a packet block's data, which is padded.
fn cut(data: &[u8], length: u32, position: usize) -> Result<&[u8], PcapError> {
    let held = data.get(..length as usize).filter(|_| length <= LONGEST_FRAME);
    held.ok_or(PcapError::BadLength { position, what: RECORD, length })
}

fn ethernet(interfaces: &[Interface], number: u32, position: usize) -> Result<Interface, PcapError> {
    let missing = PcapError::NoInterface { position, interface: number };
    let interface = *interfaces.get(number as usize).ok_or(missing)?;
    if interface.link_type == ETHERNET {
        Ok(interface)
    } else {
        Err(PcapError::LinkType { position, found: interface.link_type })
    }
}

/// `if_tsoffset`: seconds to add, in the section's byte order.
fn time_offset(options: &[PcapNGOption<'_>], big_endian: bool) -> i64 {
    let found = options.iter().find(|option| option.code == OptionCode::IfTsoffset);
    let bytes = found.and_then(|option| option.value().first_chunk().copied());
    bytes.map_or(0, |bytes| if big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) })
}

impl Interface {
    /// The time that so many ticks of `if_tsresol` mean: a power of ten, or of two if the upper bit is set. Times
    /// before the epoch read as the epoch.
    fn time(&self, ticks: u64) -> Duration {
        const NANOS: u128 = 1_000_000_000;
        let power = u32::from(self.resolution & 0x7f);
        let ticks = u128::from(ticks) * NANOS;
        let nanos = if self.resolution & 0x80 != 0 {
            ticks >> power
        } else {
            10_u128.checked_pow(power).map_or(0, |unit| ticks / unit)
        };
        let seconds =
            i128::try_from(nanos / NANOS).unwrap_or(i128::MAX).saturating_add(i128::from(self.offset));
        Duration::new(u64::try_from(seconds.max(0)).unwrap_or(u64::MAX), (nanos % NANOS) as u32)
    }
}

/// Writes a classic pcap file with nanoseconds, little-endian, Ethernet.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: io::Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn new(mut out: W) -> io::Result<Self> {
        let words = [0xa1b2_3c4d, 0x0004_0002, 0, 0, LONGEST_FRAME, ETHERNET];
        words.iter().try_for_each(|word: &u32| out.write_all(&word.to_le_bytes()))?;
        Ok(Self { out })
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// Those of writing; [`io::ErrorKind::InvalidInput`] for a frame beyond [`LONGEST_FRAME`] and for a time after
    /// 2106, neither of which the format can hold.
    pub fn write(&mut self, timestamp: Duration, frame: &[u8]) -> io::Result<()> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let length = u32::try_from(frame.len()).ok().filter(|length| *length <= LONGEST_FRAME);
        let length = length.ok_or_else(|| invalid("the frame is too long for a capture"))?;
        let seconds = u32::try_from(timestamp.as_secs()).map_err(|_| invalid("the time is after 2106"))?;
        for word in [seconds, timestamp.subsec_nanos(), length, length] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(frame)
    }

    /// Gives back what was written to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

#[cfg(test)]
mod tests;
