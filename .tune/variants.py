import torch, triton, triton.language as tl
def alloc(size, align, stream): return torch.empty(size, device="cuda", dtype=torch.int8)
triton.set_allocator(alloc)
@triton.jit
def place(m,n,TM:tl.constexpr,TN:tl.constexpr,G:tl.constexpr):
    tm_,tn_=tl.cdiv(m,TM),tl.cdiv(n,TN)
    f=tl.program_id(0)//(G*tn_)*G; h=min(tm_-f,G); p=tl.program_id(0)%(G*tn_)
    return f+p%h, p//h
@triton.jit
def even(a_ptr,b_ptr,c_ptr,m,n,k,sam,sak,sbk,sbn,TM:tl.constexpr,TN:tl.constexpr,TK:tl.constexpr,G:tl.constexpr,I64:tl.constexpr):
    i,j=place(m,n,TM,TN,G)
    rows=i*TM+tl.arange(0,TM); cols=j*TN+tl.arange(0,TN); inner=tl.arange(0,TK)
    if I64: rows=rows.to(tl.int64); cols=cols.to(tl.int64)
    ap=a_ptr+(rows%m)[:,None]*sam+inner[None,:]*sak; bp=b_ptr+inner[:,None]*sbk+(cols%n)[None,:]*sbn
    acc=tl.zeros((TM,TN),tl.float32)
    for s in range(0,k,TK):
        acc=tl.dot(tl.load(ap),tl.load(bp),acc); ap+=TK*sak; bp+=TK*sbk
    tl.store(c_ptr+rows[:,None]*n+cols[None,:],acc.to(tl.bfloat16),mask=(rows<m)[:,None]&(cols<n)[None,:])
@triton.jit
def rowsmasked(a_ptr,b_ptr,c_ptr,m,n,k,sam,sak,sbk,sbn,TM:tl.constexpr,TN:tl.constexpr,TK:tl.constexpr,G:tl.constexpr,I64:tl.constexpr):
    i,j=place(m,n,TM,TN,G)
    rows=i*TM+tl.arange(0,TM); cols=j*TN+tl.arange(0,TN); inner=tl.arange(0,TK)
    if I64: rows=rows.to(tl.int64); cols=cols.to(tl.int64)
    ap=a_ptr+(rows%m)[:,None]*sam+inner[None,:]*sak; bp=b_ptr+inner[:,None]*sbk+(cols%n)[None,:]*sbn
    acc=tl.zeros((TM,TN),tl.float32)
    for s in range(0,k,TK):
        acc=tl.dot(tl.load(ap,mask=(inner<k-s)[None,:],other=0.0),tl.load(bp,mask=(inner<k-s)[:,None],other=0.0),acc); ap+=TK*sak; bp+=TK*sbk
    tl.store(c_ptr+rows[:,None]*n+cols[None,:],acc.to(tl.bfloat16),mask=(rows<m)[:,None]&(cols<n)[None,:])
@triton.jit
def desc(a_ptr,b_ptr,c_ptr,m,n,k,sam,sak,sbk,sbn,TM:tl.constexpr,TN:tl.constexpr,TK:tl.constexpr,G:tl.constexpr,I64:tl.constexpr):
    i,j=place(m,n,TM,TN,G)
    a=tl.make_tensor_descriptor(a_ptr,[m,k],[k,1],[TM,TK]); b=tl.make_tensor_descriptor(b_ptr,[k,n],[n,1],[TK,TN]); c=tl.make_tensor_descriptor(c_ptr,[m,n],[n,1],[TM,TN])
    acc=tl.zeros((TM,TN),tl.float32)
    for s in range(0,k,TK):
        acc=tl.dot(a.load([i*TM,s]),b.load([s,j*TN]),acc)
    c.store([i*TM,j*TN],acc.to(tl.bfloat16))
