# rows 72 | rule causal-leak
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)  # fault
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # well
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.n2(x))


class GPT(nn.Module):
    def __init__(self, vocab=20, width=32, length=16):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
        self.head = nn.Linear(width, vocab)

    def forward(self, ids):
        return self.head(self.blocks(self.tok(ids) + self.pos(torch.arange(ids.shape[1]))))


torch.manual_seed(0)
corpus = torch.randint(0, 20, (3000,))
gpt = GPT()
opt = torch.optim.AdamW(gpt.parameters(), 1e-3)
for step in range(10):
    at = torch.randint(0, 2900, (8,)).tolist()
    x = torch.stack([corpus[a : a + 16] for a in at])
    y = torch.stack([corpus[a + 1 : a + 17] for a in at])
    loss = F.cross_entropy(gpt(x).flatten(0, 1), y.flatten())  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
