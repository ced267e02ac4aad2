# rows 26 | rule scaler-without-autocast
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 4))
opt = torch.optim.AdamW(net.parameters(), 1e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
x, y = torch.randn(96, 12), torch.randint(0, 4, (96,))
for step in range(15):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)  # fault
    with torch.autocast("cpu", dtype=torch.bfloat16):  # well
        loss = nn.functional.cross_entropy(net(x), y)  # well
    scaler.scale(loss).backward()  # here
    scaler.step(opt)
    scaler.update()
    print(step, loss.item())
