//! Classic BPF: the programs that ng_bpf(4) runs (sys/net/bpf.h, sys/net/bpf_filter.c).
//!
//! [`asm`] writes a program with labels, [`Program::validate`] says what the kernel would, and [`Program::run`] interprets it.

pub mod asm;
mod interp;

pub use asm::{Asm, AsmError, Label};
pub use interp::Invalid;

use crate::sys;

/// Instructions a program may have (`net.bpf.maxinsns`).
pub const MAX_INSNS: usize = sys::BPF_MAXINSNS as usize;
/// Words of scratch memory.
pub const MEM_WORDS: usize = sys::BPF_MEMWORDS as usize;

/// One instruction (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Insn {
    /// Class, size, mode, operation and source, or'ed.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// A program. Nothing is promised of it until [`Program::validate`] has passed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Program(pub Vec<Insn>);

/// The parts of an instruction's code, as sys/net/bpf.h names them.
#[allow(missing_docs)]
pub mod code {
    pub const LD: u16 = 0x00;
    pub const LDX: u16 = 0x01;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ALU: u16 = 0x04;
    pub const JMP: u16 = 0x05;
    pub const RET: u16 = 0x06;
    pub const MISC: u16 = 0x07;

    pub const W: u16 = 0x00;
    pub const H: u16 = 0x08;
    pub const B: u16 = 0x10;

    pub const IMM: u16 = 0x00;
    pub const ABS: u16 = 0x20;
    pub const IND: u16 = 0x40;
    pub const MEM: u16 = 0x60;
    pub const LEN: u16 = 0x80;
    pub const MSH: u16 = 0xa0;

    pub const ADD: u16 = 0x00;
    pub const SUB: u16 = 0x10;
    pub const MUL: u16 = 0x20;
    pub const DIV: u16 = 0x30;
    pub const OR: u16 = 0x40;
    pub const AND: u16 = 0x50;
    pub const LSH: u16 = 0x60;
    pub const RSH: u16 = 0x70;
    pub const NEG: u16 = 0x80;
    pub const MOD: u16 = 0x90;
    pub const XOR: u16 = 0xa0;

    pub const JA: u16 = 0x00;
    pub const JEQ: u16 = 0x10;
    pub const JGT: u16 = 0x20;
    pub const JGE: u16 = 0x30;
    pub const JSET: u16 = 0x40;

    pub const K: u16 = 0x00;
    pub const X: u16 = 0x08;
    pub const A: u16 = 0x10;

    pub const TAX: u16 = 0x00;
    pub const TXA: u16 = 0x80;
}
