//! A small assembler for classic BPF: instructions in order, jumps to labels.
//!
//! Only what filters of Ethernet frames want. Jumps go forward, conditional ones at most 255 instructions far, as the
//! format has it; a program that would need more is refused, never mangled.

use super::code::*;
use super::{Insn, Invalid, Program};
use thiserror::Error;

/// Where a jump goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// Why there is no program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AsmError {
    /// A label that was never placed.
    #[error("a jump at instruction {0} goes to a label that was never placed")]
    Unplaced(usize),
    /// A jump backward, or further than 255 instructions.
    #[error("a jump at instruction {0} is backward or too far")]
    TooFar(usize),
    /// What the kernel would say of the result.
    #[error("not a valid program: {0}")]
    Invalid(#[from] Invalid),
}

/// A program being written.
#[derive(Debug, Default)]
pub struct Asm {
    insns: Vec<Insn>,
    /// Where each label is placed.
    labels: Vec<Option<usize>>,
    /// Instruction, its target if true, its target if false; `None` is the next instruction.
    jumps: Vec<(usize, Option<Label>, Option<Label>)>,
    /// Unconditional jumps: their distance has 32 bits.
    gotos: Vec<(usize, Label)>,
}

impl Asm {
    /// Nothing yet.
    pub fn new() -> Asm {
        Asm::default()
    }

    /// A new label, not yet placed.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label before the next instruction.
    pub fn place(&mut self, label: Label) -> &mut Asm {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(self.insns.len());
        }
        self
    }

    fn emit(&mut self, code: u16, k: u32) -> &mut Asm {
        self.insns.push(Insn { code, jt: 0, jf: 0, k });
        self
    }

    fn jump(&mut self, op: u16, k: u32, yes: Option<Label>, no: Option<Label>) -> &mut Asm {
        self.jumps.push((self.insns.len(), yes, no));
        self.emit(JMP | op | K, k)
    }

    /// A := the word at `at`.
    pub fn ld(&mut self, at: u32) -> &mut Asm {
        self.emit(LD | W | ABS, at)
    }

    /// A := the halfword at `at`.
    pub fn ldh(&mut self, at: u32) -> &mut Asm {
        self.emit(LD | H | ABS, at)
    }

    /// A := the byte at `at`.
    pub fn ldb(&mut self, at: u32) -> &mut Asm {
        self.emit(LD | B | ABS, at)
    }

    /// A := the halfword at X + `at`.
    pub fn ldh_x(&mut self, at: u32) -> &mut Asm {
        self.emit(LD | H | IND, at)
    }

    /// X := 4 × the low four bits of the byte at `at`: the length of an IPv4 header.
    pub fn ldx_msh(&mut self, at: u32) -> &mut Asm {
        self.emit(LDX | MSH | B, at)
    }

    /// A := A & `mask`.
    pub fn and(&mut self, mask: u32) -> &mut Asm {
        self.emit(ALU | AND | K, mask)
    }

    /// To `label`, however far.
    pub fn goto(&mut self, label: Label) -> &mut Asm {
        self.gotos.push((self.insns.len(), label));
        self.emit(JMP | JA, 0)
    }

    /// To `label` if A = `k`.
    pub fn if_eq(&mut self, k: u32, label: Label) -> &mut Asm {
        self.jump(JEQ, k, Some(label), None)
    }

    /// To `label` unless A = `k`.
    pub fn unless_eq(&mut self, k: u32, label: Label) -> &mut Asm {
        self.jump(JEQ, k, None, Some(label))
    }

    /// To `label` if A has any bit of `k`.
    pub fn if_set(&mut self, k: u32, label: Label) -> &mut Asm {
        self.jump(JSET, k, Some(label), None)
    }

    /// To `label` unless A ≥ `k`.
    pub fn unless_ge(&mut self, k: u32, label: Label) -> &mut Asm {
        self.jump(JGE, k, None, Some(label))
    }

    /// Keeps the whole frame.
    pub fn accept(&mut self) -> &mut Asm {
        self.emit(RET | K, u32::MAX)
    }

    /// Drops it.
    pub fn drop_frame(&mut self) -> &mut Asm {
        self.emit(RET | K, 0)
    }

    /// The program, with its labels resolved, validated.
    pub fn finish(mut self) -> Result<Program, AsmError> {
        let labels = &self.labels;
        let distance = |at: usize, label: Label| {
            let place = labels.get(label.0).copied().flatten().ok_or(AsmError::Unplaced(at))?;
            place.checked_sub(at + 1).ok_or(AsmError::TooFar(at))
        };
        for (at, label) in &self.gotos {
            let skip = u32::try_from(distance(*at, *label)?).map_err(|_| AsmError::TooFar(*at))?;
            if let Some(insn) = self.insns.get_mut(*at) {
                insn.k = skip;
            }
        }
        for (at, yes, no) in &self.jumps {
            let skip = |label: &Option<Label>| match label {
                None => Ok(0),
                Some(label) => u8::try_from(distance(*at, *label)?).map_err(|_| AsmError::TooFar(*at)),
            };
            let (jt, jf) = (skip(yes)?, skip(no)?);
            if let Some(insn) = self.insns.get_mut(*at) {
                (insn.jt, insn.jf) = (jt, jf);
            }
        }
        let program = Program(self.insns);
        program.validate()?;
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_distances() {
        let mut asm = Asm::new();
        let (yes, no) = (asm.label(), asm.label());
        asm.ldb(0).if_eq(1, yes).unless_eq(2, no).place(yes).accept().place(no).drop_frame();
        let program = asm.finish().unwrap();
        assert_eq!((program.0[1].jt, program.0[1].jf), (1, 0));
        assert_eq!((program.0[2].jt, program.0[2].jf), (0, 1));
        assert_eq!([1, 2, 3].map(|b| program.run(&[b])), [u32::MAX, u32::MAX, 0]);
    }

    #[test]
    fn a_label_must_be_placed_near_and_ahead() {
        let mut asm = Asm::new();
        let label = asm.label();
        asm.if_eq(0, label).drop_frame();
        assert_eq!(asm.finish(), Err(AsmError::Unplaced(0)));

        let mut asm = Asm::new();
        let label = asm.label();
        asm.place(label).if_eq(0, label).drop_frame();
        assert_eq!(asm.finish(), Err(AsmError::TooFar(0)));

        let mut asm = Asm::new();
        let label = asm.label();
        asm.if_eq(0, label);
        for _ in 0..256 {
            asm.ldb(0);
        }
        asm.place(label).drop_frame();
        assert_eq!(asm.finish(), Err(AsmError::TooFar(0)));
    }
}
