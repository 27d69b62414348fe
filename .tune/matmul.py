import importlib.util, itertools, json, sys, time, torch, triton
from triton.testing import do_bench
def load(p):
    s=importlib.util.spec_from_file_location(p.split('/')[-1][:-3],p); m=importlib.util.module_from_spec(s); sys.modules[s.name]=m; s.loader.exec_module(m); return m
R='solutions/2_memory_patterns/1_tiled_matmul/'
A,B,C=load(R+'a_naive.py'),load(R+'b_grouped.py'),load(R+'c_autotuned.py')
T0=time.time()
B_=lambda f,r=40: do_bench(f,warmup=10,rep=r,return_mode="median")
def tf(m,n,k,ms): return round(2*m*n*k/ms/1e9,1)
for s in (4096,8192):
    a,b=(torch.randn(s,s,device='cuda',dtype=torch.bfloat16) for _ in range(2)); ref=a@b
    row=dict(s=s,cublas=tf(s,s,s,B_(lambda:a@b)))
    for name,M in (('a',A),('b',B)):
        err=float((M.matmul(a,b).float()-ref.float()).norm()/ref.float().norm()); row[name]=tf(s,s,s,B_(lambda:M.matmul(a,b))); row[name+'_err']=err
    c=torch.empty_like(ref)
    for g in (1,4,8,16):
        for (tm,tn,tk,w,st) in ((128,128,64,8,3),(128,128,64,4,3),(128,256,64,8,3),(128,256,64,8,4),(256,128,64,8,3),(128,128,64,4,4)):
            grid=(triton.cdiv(s,tm)*triton.cdiv(s,tn),)
            f=lambda: B.matmul_kernel[grid](a,b,c,s,s,s,*a.stride(),*b.stride(),TILE_M=tm,TILE_N=tn,TILE_K=tk,GROUP_M=g,num_warps=w,num_stages=st)
            try: f(); row[f'g{g}_{tm}x{tn}x{tk}w{w}s{st}']=tf(s,s,s,B_(f,20))
            except Exception as e: row[f'g{g}_{tm}x{tn}w{w}s{st}']=type(e).__name__
    print(json.dumps(row),flush=True)
sys.path.insert(0,'.tune'); import variants as V
for s in (4096,8192):
    a,b=(torch.randn(s,s,device='cuda',dtype=torch.bfloat16) for _ in range(2)); ref=a@b; c=torch.empty_like(ref); row=dict(s=s)
    for name in ('even','rowsmasked','desc'):
        for i64 in ((0,1) if name!='desc' else (0,)):
            for (tm,tn,tk,w,st) in ((128,128,64,8,3),(128,128,64,4,4),(128,256,64,8,3),(128,256,64,8,4),(256,128,64,8,3)):
                grid=(triton.cdiv(s,tm)*triton.cdiv(s,tn),)
                f=lambda: getattr(V,name)[grid](a,b,c,s,s,s,*a.stride(),*b.stride(),tm,tn,tk,8,i64,num_warps=w,num_stages=st)
                try: f(); row[f'{name}{i64}_{tm}x{tn}w{w}s{st}']=tf(s,s,s,B_(f,20)); row['err']=max(row.get('err',0),float((c.float()-ref.float()).norm()/ref.float().norm()))
                except Exception as e: row[f'{name}{i64}_{tm}x{tn}w{w}s{st}']=type(e).__name__
    print(json.dumps(row),flush=True)
P=torch.cuda.get_device_properties(0); print(hasattr(P,'shared_memory_per_block_optin') and P.shared_memory_per_block_optin, P.L2_cache_size)
grid_cfg=[(tm,tn,tk,w,st) for tm in (16,32,64,128,256) for tn in (32,64,128,256) for tk in (64,128) for w in (4,8) for st in (3,4,5) if (tm+tn)*tk*2*st<=232448 and 2048<=tm*tn<=128*256 and not(tm*tn>=128*256 and w==4) and not (tm*tn<=64*64 and w==8)]
print(len(grid_cfg))
for (m,n,k) in ((16,8192,8192),(64,8192,8192),(256,4096,4096),(512,4096,4096),(1024,4096,4096),(2048,2048,2048),(1536,1536,8192),(16384,512,4096),(8192,1024,8192),(4096,4096,4096),(1000,3000,5000)):
    if time.time()-T0>float(sys.argv[1]): print('out of time'); break
    a=torch.randn(m,k,device='cuda',dtype=torch.bfloat16); b=torch.randn(k,n,device='cuda',dtype=torch.bfloat16); c=torch.empty(m,n,device='cuda',dtype=torch.bfloat16)
    cub=B_(lambda:a@b,20); fixed=B_(lambda:B.matmul(a,b),20); auto=B_(lambda:C.matmul(a,b),20); res=[]
    for (tm,tn,tk,w,st) in grid_cfg:
        if tm>2*m and tm>16: continue
        grid=(triton.cdiv(m,tm)*triton.cdiv(n,tn),)
        f=lambda: B.matmul_kernel[grid](a,b,c,m,n,k,*a.stride(),*b.stride(),TILE_M=tm,TILE_N=tn,TILE_K=tk,GROUP_M=8,num_warps=w,num_stages=st)
        try: f(); res.append((B_(f,4),tm,tn,tk,w,st))
        except Exception as e: pass
        if time.time()-T0>float(sys.argv[1])+15: break
    res.sort(); print(json.dumps(dict(m=m,n=n,k=k,cublas_ms=cub,fixed=round(cub/fixed,3),auto=round(cub/auto,3),auto_cfg=str(C.matmul_kernel.best_config),best=[(round(cub/r[0],3),)+r[1:] for r in res[:6]],tried=len(res),t=round(time.time()-T0))),flush=True)
