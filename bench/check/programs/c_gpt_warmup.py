# control 13 15 17 20 28
import math

import torch
import torch.nn.functional as F
from torch import nn


class GPT(nn.Module):
    def __init__(self, v=30, w=32):
        super().__init__()
        self.tok, self.pos = nn.Embedding(v, w), nn.Parameter(torch.zeros(20, w))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(w, 4, 4 * w, 0.1, "gelu", batch_first=True, norm_first=True) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(w), nn.Linear(w, v, bias=False)
        nn.init.normal_(self.tok.weight, std=0.02)
        self.head.weight = self.tok.weight

    def forward(self, ids, targets):
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        x = self.tok(ids) + self.pos[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, mask, is_causal=True)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


torch.manual_seed(0)
data = (torch.arange(3000) ** 2 // 7) % 30
net = GPT()
opt = torch.optim.AdamW(net.parameters(), 3e-3, betas=(0.9, 0.95), weight_decay=0.1)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: s / 5 if s < 5 else 0.5 * (1 + math.cos(math.pi * (s - 5) / 15)))
for step in range(20):
    at = torch.randint(0, 2900, (12,)).tolist()
    x, y = (torch.stack([data[a + k : a + k + 20] for a in at]) for k in (0, 1))
    loss = net(x, y)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
    sched.step()
    print(step, loss.item())
